package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds of JSON value. Undefined is what a missing key gives.
const (
	Undefined Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Value is a JSON value that keeps the order of its keys, because a template writes tools and arguments out in the order
// that they came in. The zero Value is Undefined.
type Value struct {
	kind  Kind
	truth bool
	text  string // of a String; the literal of a Number
	list  []Value
	keys  []string         // of an Object, in order
	items map[string]Value // of an Object
}

// Pair is a key and its value, for NewObject.
type Pair struct {
	Key   string
	Value Value
}

// NewString makes a string.
func NewString(s string) Value { return Value{kind: String, text: s} }

// NewBool makes a truth value.
func NewBool(b bool) Value { return Value{kind: Bool, truth: b} }

// NewArray makes a list.
func NewArray(v ...Value) Value { return Value{kind: Array, list: v} }

// NewObject makes an object with its keys in the order given; a repeated key keeps its first place and its last value.
func NewObject(pairs ...Pair) Value {
	v := Value{kind: Object, items: make(map[string]Value, len(pairs))}
	for _, p := range pairs {
		v.set(p.Key, p.Value)
	}
	return v
}

func (v *Value) set(key string, item Value) {
	if _, ok := v.items[key]; !ok {
		v.keys = append(v.keys, key)
	}
	v.items[key] = item
}

// Kind is the value's type.
func (v Value) Kind() Kind { return v.kind }

// Text is the content of a String and the literal of a Number.
func (v Value) Text() string { return v.text }

// List is the elements of an Array.
func (v Value) List() []Value { return v.list }

// Keys is the keys of an Object in order.
func (v Value) Keys() []string { return v.keys }

// Get is an Object's value for key, Undefined if there is none or v is no Object.
func (v Value) Get(key string) Value { return v.items[key] }

// Truthy is Jinja's truth: undefined, null, false, zero and empty things are false.
func (v Value) Truthy() bool {
	switch v.kind {
	case Bool:
		return v.truth
	case Number:
		f, err := strconv.ParseFloat(v.text, 64)
		return err != nil || f != 0
	case String:
		return v.text != ""
	case Array:
		return len(v.list) > 0
	case Object:
		return len(v.keys) > 0
	}
	return false
}

// depthLimit bounds the nesting of values, so that hostile input cannot exhaust the stack.
const depthLimit = 200

// ParseValue reads one JSON value and nothing after it.
func ParseValue(data []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d, 0)
	if err != nil {
		return Value{}, fmt.Errorf("chat: parsing JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Value{}, fmt.Errorf("chat: parsing JSON: more than one value")
	}
	return v, nil
}

func decode(d *json.Decoder, depth int) (Value, error) {
	if depth > depthLimit {
		return Value{}, fmt.Errorf("nested deeper than %d", depthLimit)
	}
	tok, err := d.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Value{}, err
	}
	switch tok := tok.(type) {
	case nil:
		return Value{kind: Null}, nil
	case bool:
		return NewBool(tok), nil
	case json.Number:
		return Value{kind: Number, text: tok.String()}, nil
	case string:
		return NewString(tok), nil
	case json.Delim:
		if tok == '[' {
			v := Value{kind: Array}
			for d.More() {
				item, err := decode(d, depth+1)
				if err != nil {
					return Value{}, err
				}
				v.list = append(v.list, item)
			}
			_, err := d.Token()
			return v, err
		}
		v := Value{kind: Object, items: map[string]Value{}}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return Value{}, err
			}
			item, err := decode(d, depth+1)
			if err != nil {
				return Value{}, err
			}
			v.set(key.(string), item)
		}
		_, err := d.Token()
		return v, err
	}
	return Value{}, fmt.Errorf("unexpected %v", tok)
}

// JSON writes the value as Python's json.dumps(v, ensure_ascii=False) does, which is what tojson means in the templates
// of transformers: ", " and ": " between things, keys in their order, nothing escaped for HTML.
func (v Value) JSON() string {
	var b strings.Builder
	v.dump(&b)
	return b.String()
}

func (v Value) dump(b *strings.Builder) {
	switch v.kind {
	case Bool:
		b.WriteString(strconv.FormatBool(v.truth))
	case Number:
		b.WriteString(pythonNumber(v.text))
	case String:
		dumpString(b, v.text)
	case Array:
		b.WriteByte('[')
		for i, item := range v.list {
			if i > 0 {
				b.WriteString(", ")
			}
			item.dump(b)
		}
		b.WriteByte(']')
	case Object:
		b.WriteByte('{')
		for i, key := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			dumpString(b, key)
			b.WriteString(": ")
			v.items[key].dump(b)
		}
		b.WriteByte('}')
	default:
		b.WriteString("null")
	}
}

func dumpString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < 0x20:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// pythonNumber is a JSON number after a trip through Python: integers keep their digits, everything else becomes the
// shortest float that reads back the same.
func pythonNumber(literal string) string {
	if !strings.ContainsAny(literal, ".eE") {
		if literal == "-0" {
			return "0"
		}
		return literal
	}
	f, err := strconv.ParseFloat(literal, 64)
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case err != nil:
		return literal
	}
	// Python's repr: exponents from 1e16 on and below 1e-4, two digits at least.
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
