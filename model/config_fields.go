package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// fields reads the keys of one JSON object and collects everything that is wrong with them, so that a user hears of all
// of it at once. A key that is null counts as absent.
type fields struct {
	prefix   string // of the keys in messages: "" or "rope_parameters."
	keys     map[string]json.RawMessage
	problems *[]error
}

// readFields reads data, which must be a JSON object.
func readFields(data []byte, problems *[]error) fields {
	f := fields{problems: problems}
	if err := json.Unmarshal(data, &f.keys); err != nil {
		*problems = append(*problems, fmt.Errorf("not a JSON object: %w", err))
	}
	return f
}

func (f fields) problem(format string, args ...any) {
	*f.problems = append(*f.problems, fmt.Errorf(format, args...))
}

func (f fields) has(key string) bool {
	raw, ok := f.keys[key]
	return ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// object is the value of key, an object whose problems are reported with ours.
func (f fields) object(key string) fields {
	sub := fields{prefix: f.prefix + key + ".", problems: f.problems}
	if f.has(key) && json.Unmarshal(f.keys[key], &sub.keys) != nil {
		f.problem("%s%s is %s, want an object", f.prefix, key, f.show(key))
	}
	return sub
}

// integer is the value of key, which must be there and lie in lo..hi. A bad value is reported and comes back as lo.
func (f fields) integer(key string, lo, hi int) int {
	if !f.has(key) {
		f.problem("%s%s is missing", f.prefix, key)
		return lo
	}
	n, ok := asInteger(f.keys[key])
	if !ok || n < lo || n > hi {
		f.problem("%s%s is %s, want a whole number from %d to %d", f.prefix, key, f.show(key), lo, hi)
		return lo
	}
	return n
}

func (f fields) integerOr(key string, absent, lo, hi int) int {
	if !f.has(key) {
		return absent
	}
	return f.integer(key, lo, hi)
}

// float is the value of key, which must be there and lie in lo..hi. A bad value is reported and comes back as lo.
func (f fields) float(key string, lo, hi float64) float64 {
	if !f.has(key) {
		f.problem("%s%s is missing", f.prefix, key)
		return lo
	}
	var x float64
	if json.Unmarshal(f.keys[key], &x) != nil || x < lo || x > hi {
		f.problem("%s%s is %s, want a number from %g to %g", f.prefix, key, f.show(key), lo, hi)
		return lo
	}
	return x
}

func (f fields) floatOr(key string, absent, lo, hi float64) float64 {
	if !f.has(key) {
		return absent
	}
	return f.float(key, lo, hi)
}

func (f fields) boolOr(key string, absent bool) bool {
	if !f.has(key) {
		return absent
	}
	var b bool
	if json.Unmarshal(f.keys[key], &b) != nil {
		f.problem("%s%s is %s, want true or false", f.prefix, key, f.show(key))
		return absent
	}
	return b
}

func (f fields) textOr(key, absent string) string {
	if !f.has(key) {
		return absent
	}
	var s string
	if json.Unmarshal(f.keys[key], &s) != nil {
		f.problem("%s%s is %s, want a string", f.prefix, key, f.show(key))
		return absent
	}
	return s
}

func (f fields) texts(key string) []string {
	var list []string
	if f.has(key) && json.Unmarshal(f.keys[key], &list) != nil {
		f.problem("%s%s is %s, want a list of strings", f.prefix, key, f.show(key))
	}
	return list
}

// integers is the value of key, a whole number or a list of them, each in lo..hi. Absent: nil.
func (f fields) integers(key string, lo, hi int) []int {
	if !f.has(key) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(f.keys[key], &list) != nil {
		list = []json.RawMessage{f.keys[key]}
	}
	out := make([]int, 0, len(list))
	for _, raw := range list {
		n, ok := asInteger(raw)
		if !ok || n < lo || n > hi {
			f.problem("%s%s is %s, want whole numbers from %d to %d", f.prefix, key, f.show(key), lo, hi)
			return nil
		}
		out = append(out, n)
	}
	return out
}

// tokens is the value of key, one token id or a list of them, each within the vocabulary.
func (f fields) tokens(key string, vocab int) []int32 {
	var ids []int32
	for _, id := range f.integers(key, 0, maxVocab-1) {
		if id >= vocab {
			f.problem("%s%s %d is outside the vocabulary of %d", f.prefix, key, id, vocab)
		}
		ids = append(ids, int32(id))
	}
	return ids
}

// show is the value of key as it stands in the file, cut short.
func (f fields) show(key string) string {
	text := strings.Join(strings.Fields(string(f.keys[key])), " ")
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:57], "") + "..."
	}
	return text
}

// asInteger reads a whole number, also where it is written as 8192.0.
func asInteger(raw json.RawMessage) (int, bool) {
	var x *float64
	if json.Unmarshal(raw, &x) != nil || x == nil || *x != math.Trunc(*x) || math.Abs(*x) > 1<<53 || math.Abs(*x) > math.MaxInt {
		return 0, false
	}
	return int(*x), true
}
