package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// reader reads the parts of tokenizer.json that are long: a vocabulary and merges of some ten megabytes in all. The
// rest is left to encoding/json. All that is read is checked; what is skipped is not.
type reader struct {
	data []byte
	at   int
}

var errCut = errors.New("unexpected end of JSON")

// fail says what was expected where the reader is.
func (r *reader) fail(want string) error {
	if r.at >= len(r.data) {
		return errCut
	}
	return fmt.Errorf("byte %d: %q where JSON needs %s", r.at, r.data[r.at], want)
}

// peek returns the next byte that is not white space without reading it; 0 at the end.
func (r *reader) peek() byte {
	for ; r.at < len(r.data); r.at++ {
		if b := r.data[r.at]; b != ' ' && b != '\n' && b != '\t' && b != '\r' {
			return b
		}
	}
	return 0
}

// take reads b, the next byte that is not white space.
func (r *reader) take(b byte) error {
	if r.peek() != b {
		return r.fail(strconv.QuoteRune(rune(b)))
	}
	r.at++
	return nil
}

// list reads an array or an object, calling item at each of its items and, in an object, at each key.
func (r *reader) list(open, end byte, item func() error) error {
	if err := r.take(open); err != nil {
		return err
	}
	if r.peek() == end {
		r.at++
		return nil
	}
	for {
		r.peek()
		if err := item(); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.at++
		case end:
			r.at++
			return nil
		default:
			return r.fail("',' or " + strconv.QuoteRune(rune(end)))
		}
	}
}

func (r *reader) array(item func() error) error { return r.list('[', ']', item) }

// object reads an object, calling value at each value with its key, which is valid until then.
func (r *reader) object(value func(key []byte) error) error {
	var unescaped []byte
	return r.list('{', '}', func() error {
		key, err := r.text(&unescaped)
		if err != nil {
			return err
		}
		if err := r.take(':'); err != nil {
			return err
		}
		r.peek()
		return value(key)
	})
}

// text reads a string: a part of the data if it has no escapes, else scratch.
func (r *reader) text(scratch *[]byte) ([]byte, error) {
	if err := r.take('"'); err != nil {
		return nil, err
	}
	start := r.at
	for ; r.at < len(r.data); r.at++ {
		switch b := r.data[r.at]; {
		case b == '"':
			text := r.data[start:r.at]
			r.at++
			return text, nil
		case b == '\\':
			return r.escapedText(start, scratch)
		case b < ' ':
			return nil, r.fail("a string without control characters")
		}
	}
	return nil, errCut
}

// escapedText is text for a string that began at start and has an escape, where the reader is.
func (r *reader) escapedText(start int, scratch *[]byte) ([]byte, error) {
	text := append((*scratch)[:0], r.data[start:r.at]...)
	simple := true
	for r.at+1 < len(r.data) {
		b := r.data[r.at]
		r.at++
		switch b {
		case '"':
			*scratch = text
			if !simple {
				return r.unmarshal(start-1, scratch)
			}
			return text, nil
		case '\\':
			b = r.data[r.at]
			r.at++
			simple = simple && (b == '"' || b == '\\')
		}
		simple = simple && b >= ' '
		text = append(text, b)
	}
	r.at = len(r.data)
	return nil, errCut
}

// unmarshal leaves the string from start on to encoding/json.
func (r *reader) unmarshal(start int, scratch *[]byte) ([]byte, error) {
	var text string
	if err := json.Unmarshal(r.data[start:r.at], &text); err != nil {
		return nil, fmt.Errorf("byte %d: %w", start, err)
	}
	*scratch = append((*scratch)[:0], text...)
	return *scratch, nil
}

// id reads a token id.
func (r *reader) id() (int, error) {
	n, start := 0, r.at
	for r.at < len(r.data) && r.data[r.at] >= '0' && r.data[r.at] <= '9' {
		if n = 10*n + int(r.data[r.at]-'0'); n >= maxTokens {
			return 0, fmt.Errorf("byte %d: token ids end at %d", start, maxTokens-1)
		}
		r.at++
	}
	if r.at == start {
		return 0, r.fail("a token id")
	}
	return n, nil
}

// skip passes over a value and returns its bytes.
func (r *reader) skip() ([]byte, error) {
	r.peek()
	start, depth := r.at, 0
	for r.peek() != 0 {
		switch r.data[r.at] {
		case '"':
			if err := r.skipText(); err != nil {
				return nil, err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth < 0 || depth == 0 && r.data[r.at] == ',' {
			return r.data[start:r.at], nil
		}
		r.at++
	}
	return nil, r.fail("a value")
}

// skipText passes over a string.
func (r *reader) skipText() error {
	for from := r.at + 1; ; {
		n := bytes.IndexByte(r.data[from:], '"')
		if n < 0 {
			r.at = len(r.data)
			return errCut
		}
		end := from + n
		backslashes := 0
		for r.data[end-1-backslashes] == '\\' {
			backslashes++
		}
		if from = end + 1; backslashes%2 == 0 {
			r.at = from
			return nil
		}
	}
}
