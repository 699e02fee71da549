package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// jsonReader reads the few shapes of JSON that safetensors uses, strictly: what json.Unmarshal lets pass, keys that come
// twice and nulls, is an error here. It never recurses, whatever it is given.
type jsonReader struct{ dec *json.Decoder }

// newJSONReader reads data, which must be valid JSON.
func newJSONReader(data []byte) *jsonReader {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &jsonReader{dec}
}

// object reads an object and calls value at each key; value must read what belongs to it.
func (r *jsonReader) object(value func(key string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.dec.More() {
		key, err := r.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %q comes twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return r.delim('}')
}

func (r *jsonReader) text() (string, error) {
	t, err := r.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("found %s, want a string", show(t))
	}
	return s, nil
}

// counts reads a list of whole numbers that are not negative.
func (r *jsonReader) counts() ([]int, error) {
	if err := r.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		text, ok := t.(json.Number)
		n, err := strconv.ParseUint(string(text), 10, 64)
		if !ok || err != nil || n > math.MaxInt {
			return nil, fmt.Errorf("found %s, want a whole number from 0", show(t))
		}
		list = append(list, int(n))
	}
	return list, r.delim(']')
}

// skip reads a value of any kind.
func (r *jsonReader) skip() error {
	var ignored json.RawMessage
	return r.dec.Decode(&ignored)
}

func (r *jsonReader) delim(want json.Delim) error {
	t, err := r.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("found %s, want %v", show(t), want)
	}
	return nil
}

// show is a token as a message may hold it.
func show(t json.Token) string {
	if s, ok := t.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(t)
}
