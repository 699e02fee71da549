package tokenizer

import (
	"fmt"
	"strings"
)

const (
	maxTokens = 1 << 20 // ids are below it: a pair of them and a rank fit in 64 bits
	maxMerges = 1<<24 - 1
)

// kind says what an id stands for.
type kind uint8

const (
	kindAbsent  kind = iota // no token
	kindBytes               // an ordinary token: the bytes its spelling stands for
	kindRaw                 // an ordinary token whose spelling spells no bytes: text cannot become it, and it decodes to its spelling
	kindAdded               // an added token: its text as it is
	kindSpecial             // an added token marked as special
)

// entry is where a token's bytes lie in the arena.
type entry struct {
	start uint32
	len   uint32 // the upper 3 bits are the kind
}

// vocabulary maps ids to bytes and bytes to ids.
type vocabulary struct {
	arena   []byte
	entries []entry          // by id
	ids     map[string]int32 // kindBytes, by their bytes
	others  map[string]int32 // all other kinds, by their spelling
	bytes   [256]int32       // the tokens of single bytes
}

const lenBits = 29

func (v *vocabulary) kind(id int32) kind {
	if uint(id) >= uint(len(v.entries)) {
		return kindAbsent
	}
	return kind(v.entries[id].len >> lenBits)
}

// text returns the bytes that the token decodes to; none if there is no such token.
func (v *vocabulary) text(id int32) []byte {
	if uint(id) >= uint(len(v.entries)) {
		return nil
	}
	e := v.entries[id]
	return v.arena[e.start:][:e.len&(1<<lenBits-1)]
}

func (v *vocabulary) spelling(id int32) (string, bool) {
	switch v.kind(id) {
	case kindAbsent:
		return "", false
	case kindBytes:
		return string(appendSpelled(nil, string(v.text(id)))), true
	}
	return string(v.text(id)), true
}

func (v *vocabulary) id(token string) (int32, bool) {
	if id, ok := v.others[token]; ok {
		return id, true
	}
	bytes, ok := appendUnspelled(nil, token)
	if !ok {
		return -1, false
	}
	return v.find(bytes)
}

// find returns the ordinary token with these bytes.
func (v *vocabulary) find(bytes []byte) (int32, bool) {
	id, ok := v.ids[string(bytes)]
	return id, ok
}

// addOrdinary adds a token of the model's vocabulary by its spelling.
func (v *vocabulary) addOrdinary(token string, id int32) error {
	if err := v.claim(token, id); err != nil {
		return err
	}
	start := len(v.arena)
	var ok bool
	if v.arena, ok = appendUnspelled(v.arena, token); !ok {
		v.arena = v.arena[:start]
		v.set(id, token, kindRaw)
		return nil
	}
	v.entries[id] = entry{uint32(start), uint32(len(v.arena)-start) | uint32(kindBytes)<<lenBits}
	v.ids[string(v.arena[start:])] = id
	return nil
}

// addAdded adds an added token, or marks as added one that the vocabulary has.
func (v *vocabulary) addAdded(text string, id int32, special bool) error {
	if have, ok := v.id(text); ok && have != id {
		return fmt.Errorf("tokenizer: added token %q has id %d, but the vocabulary gives it %d", text, id, have)
	} else if !ok {
		if err := v.claim(text, id); err != nil {
			return err
		}
	}
	k := kindAdded
	if special {
		k = kindSpecial
	}
	v.set(id, text, k)
	return nil
}

func (v *vocabulary) set(id int32, text string, k kind) {
	v.entries[id] = entry{uint32(len(v.arena)), uint32(len(text)) | uint32(k)<<lenBits}
	v.arena = append(v.arena, text...)
	v.others[strings.Clone(text)] = id
}

// claim makes room for id.
func (v *vocabulary) claim(token string, id int32) error {
	if id < 0 || id >= maxTokens {
		return fmt.Errorf("tokenizer: token %q has id %d; ids must be from 0 to %d", token, id, maxTokens-1)
	}
	if v.kind(id) != kindAbsent {
		other, _ := v.spelling(id)
		return fmt.Errorf("tokenizer: tokens %q and %q have the same id %d", other, token, id)
	}
	for int(id) >= len(v.entries) {
		v.entries = append(v.entries, entry{})
	}
	return nil
}
