package kvcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The keys as the doc comment of KeyChain defines them, written down a second time.
func TestKeyChainIsTheHashItSays(t *testing.T) {
	g := Geometry{Identity: [32]byte{1, 2, 3}}
	for _, salt := range []string{"", "tenant", strings.Repeat("long salt ", 100)} {
		var b bytes.Buffer
		b.WriteByte(1)
		_ = binary.Write(&b, binary.LittleEndian, uint32(1))
		b.Write(g.Identity[:])
		b.WriteString(salt)
		root := NewKeyChain(g).Root(salt)
		require.Equal(t, Key(sha256.Sum256(b.Bytes())), root, "root of salt %.20q", salt)

		for _, n := range []int{0, 1, 16, 55, 56, 64, 1000} {
			tokens := make([]int32, n)
			for i := range tokens {
				tokens[i] = int32(i*i - 7)
			}
			b.Reset()
			b.WriteByte(2)
			b.Write(root[:])
			_ = binary.Write(&b, binary.LittleEndian, tokens)
			require.Equal(t, Key(sha256.Sum256(b.Bytes())), NewKeyChain(g).Next(root, tokens), "%d tokens", n)
		}
		b.Reset()
		b.WriteByte(3)
		b.Write(root[:])
		_ = binary.Write(&b, binary.LittleEndian, uint32(100))
		require.Equal(t, Key(sha256.Sum256(b.Bytes())), NewKeyChain(g).Gap(root, 100))
	}
}

func TestKeyChainSeparates(t *testing.T) {
	g := Geometry{Identity: [32]byte{1}}
	c := NewKeyChain(g)
	tokens := []int32{1, 2, 3, 4}
	root := c.Root("")
	keys := map[Key]string{root: "root"}
	for name, key := range map[string]Key{
		"another model's root":  NewKeyChain(Geometry{Identity: [32]byte{2}}).Root(""),
		"another tenant's root": c.Root("tenant"),
		"tokens":                c.Next(root, tokens),
		"fewer tokens":          c.Next(root, tokens[:3]),
		"other order":           c.Next(root, []int32{1, 2, 4, 3}),
		"after another parent":  c.Next(c.Next(root, tokens), tokens),
		"another tenant's":      c.Next(c.Root("tenant"), tokens),
		"no tokens":             c.Next(root, nil),
		"a gap":                 c.Gap(root, 4),
		"another gap":           c.Gap(root, 5),
		"tokens after a gap":    c.Next(c.Gap(root, 4), tokens),
		"one token, the gap's":  c.Next(root, []int32{4}),
	} {
		require.NotContains(t, keys, key, "%s and %s", name, keys[key])
		keys[key] = name
	}
}

func TestKeyChainDoesNotAllocate(t *testing.T) {
	c := NewKeyChain(Geometry{})
	tokens := make([]int32, 1000)
	salt := strings.Repeat("s", 500)
	require.Zero(t, testing.AllocsPerRun(10, func() { c.Next(c.Root(salt), tokens) }))
}

func BenchmarkKeyChain(b *testing.B) {
	c := NewKeyChain(Geometry{})
	tokens := make([]int32, 16)
	key := c.Root("")
	b.SetBytes(16 * 4)
	for b.Loop() {
		key = c.Next(key, tokens)
	}
}
