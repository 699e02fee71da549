package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
)

// maxTokens is what ids are below: a pair of them and a rank fit in 64 bits, see mergeTable.
const maxTokens = 1 << 20

// kind says how a token is spelled in tokenizer.json.
type kind uint8

const (
	kindAbsent kind = iota // no token has the id
	kindBytes              // in runes that stand for bytes
	kindText               // as it is: added tokens, and ordinary ones that no text becomes since they stand for no bytes

	special kind = 1 << 7 // set with one of the above in an added token that is marked as special
)

// place is where a token's bytes lie in the arena.
type place struct{ start, len uint32 }

// vocabulary maps ids to bytes and bytes to ids.
type vocabulary struct {
	arena  strings.Builder  // only grows, so that what String has returned stays valid
	places []place          // by id
	kinds  []kind           // by id
	others map[string]int32 // those of kindText, by their spelling
	bytes  [256]int32       // the tokens of single bytes

	// An open-addressed hash table of the tokens of kindBytes: id+1 in the lower 21 bits, then 11 bits of the hash.
	// 0 is an empty slot. Between three and six of eight slots are used.
	slots []uint32
	seed  maphash.Seed
}

const (
	idBits  = 21
	idMask  = 1<<idBits - 1
	tagMask = ^uint32(idMask)
)

func (v *vocabulary) kind(id int32) kind {
	if uint(id) >= uint(len(v.kinds)) {
		return kindAbsent
	}
	return v.kinds[id] &^ special
}

func (v *vocabulary) isSpecial(id int32) bool {
	return uint(id) < uint(len(v.kinds)) && v.kinds[id]&special != 0
}

// text returns the bytes that the token decodes to, which need not be valid UTF-8; none if there is no such token.
func (v *vocabulary) text(id int32) string {
	if uint(id) >= uint(len(v.places)) {
		return ""
	}
	p := v.places[id]
	return v.arena.String()[p.start:][:p.len]
}

func (v *vocabulary) spelling(id int32) (string, bool) {
	switch v.kind(id) {
	case kindAbsent:
		return "", false
	case kindBytes:
		return string(appendSpelled(nil, v.text(id))), true
	}
	return v.text(id), true
}

// id finds a token of any kind by its spelling.
func (v *vocabulary) id(token string) (int32, bool) {
	if id, ok := v.others[token]; ok {
		return id, true
	}
	bytes, ok := appendUnspelled(nil, []byte(token))
	if !ok {
		return -1, false
	}
	id := v.find(string(bytes))
	return id, id >= 0
}

// find returns the token of kindBytes with these bytes, or -1.
func (v *vocabulary) find(bytes string) int32 {
	id, _ := v.probe(bytes, maphash.String(v.seed, bytes))
	return id
}

// findNear is find where the token is likely to have the id guess.
func (v *vocabulary) findNear(guess int32, bytes []byte) int32 {
	if v.kind(guess) == kindBytes && v.text(guess) == string(bytes) {
		return guess
	}
	return v.find(string(bytes))
}

// probe returns the token with these bytes and this hash, and its slot; or -1 and the slot where it would go.
func (v *vocabulary) probe(bytes string, hash uint64) (id int32, slot uint64) {
	mask := uint64(len(v.slots) - 1)
	tag := uint32(hash>>32) & tagMask
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := v.slots[i]
		if slot == 0 {
			return -1, i
		}
		if slot&tagMask != tag {
			continue
		}
		id := int32(slot&idMask) - 1
		if v.text(id) == bytes {
			return id, i
		}
	}
}

// index builds the hash table.
func (v *vocabulary) index() error {
	v.seed = maphash.MakeSeed()
	v.slots = make([]uint32, 1<<bits.Len(uint(len(v.kinds)+len(v.kinds)/3)))
	for id, k := range v.kinds {
		if k != kindBytes {
			continue
		}
		bytes := v.text(int32(id))
		hash := maphash.String(v.seed, bytes)
		twin, slot := v.probe(bytes, hash)
		if twin >= 0 {
			return fmt.Errorf("token %q has the ids %d and %d", appendSpelled(nil, bytes), twin, id)
		}
		v.slots[slot] = uint32(hash>>32)&tagMask | uint32(id+1)
	}
	for b := range v.bytes {
		v.bytes[b] = v.find(string([]byte{byte(b)}))
		if v.bytes[b] < 0 {
			return fmt.Errorf("the vocabulary has no token for byte %#02x, spelled %q", b, runeOfByte(byte(b)))
		}
	}
	return nil
}

// reserve makes room for as many tokens.
func (v *vocabulary) reserve(tokens int) {
	tokens = min(tokens, maxTokens)
	v.kinds = make([]kind, 0, tokens)
	v.places = make([]place, 0, tokens)
	v.arena.Grow(8 * tokens)
}

// addBytes adds a token of kindBytes.
func (v *vocabulary) addBytes(id int, bytes []byte) error {
	if err := v.claim(id); err != nil {
		return err
	}
	v.places[id] = place{uint32(v.arena.Len()), uint32(len(bytes))}
	v.kinds[id] = kindBytes
	v.arena.Write(bytes)
	return nil
}

// addText adds a token of kindText.
func (v *vocabulary) addText(id int, text string) error {
	if err := v.claim(id); err != nil {
		return err
	}
	if have, ok := v.others[text]; ok {
		return fmt.Errorf("token %q has the ids %d and %d", text, have, id)
	}
	v.places[id] = place{uint32(v.arena.Len()), uint32(len(text))}
	v.kinds[id] = kindText
	v.arena.WriteString(text)
	if v.others == nil {
		v.others = map[string]int32{}
	}
	v.others[strings.Clone(text)] = int32(id)
	return nil
}

// addAdded adds an added token, which the vocabulary may have already.
func (v *vocabulary) addAdded(id int, text string, isSpecial bool) error {
	have, ok := v.id(text)
	switch {
	case !ok:
		if err := v.addText(id, text); err != nil {
			return err
		}
	case int(have) != id:
		return fmt.Errorf("the vocabulary gives token %q, added as %d, the id %d", text, id, have)
	}
	if isSpecial {
		v.kinds[id] |= special
	}
	return nil
}

// claim makes room for a token.
func (v *vocabulary) claim(id int) error {
	switch {
	case id < 0 || id >= maxTokens:
		return fmt.Errorf("token id %d is not from 0 to %d", id, maxTokens-1)
	case v.kind(int32(id)) != kindAbsent:
		token, _ := v.spelling(int32(id))
		return fmt.Errorf("two tokens have the id %d; one is %q", id, token)
	}
	if more := id + 1 - len(v.kinds); more > 0 {
		v.kinds = append(v.kinds, make([]kind, more)...)
		v.places = append(v.places, make([]place, more)...)
	}
	return nil
}
