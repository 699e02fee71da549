package kvcachetest_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// TestBeginnings: each scenario with a prompt as long as a beginning plays one of them, and so does the random part.
func TestBeginnings(t *testing.T) {
	const tokens = 16
	beginnings := kvcachetest.Beginnings(tokens)
	for _, b := range beginnings {
		require.Len(t, b, tokens)
	}
	for _, part := range []string{"prompts about whole blocks", "producer removed", "tenants", "preempted", "random"} {
		met, prompts := 0, 0
		s := altered{change: func(m *changed) {
			m.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				prompts++
				if len(p.Tokens) >= tokens && slices.ContainsFunc(beginnings, func(b []int32) bool { return slices.Equal(b, p.Tokens[:tokens]) }) {
					met++
				}
				return m.Manager.Admit(id, p)
			}
		}}
		require.Empty(t, record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, s, part) }).failure)
		require.Greater(t, met, prompts/4, "prompts of part %q that begin so, of %d", part, prompts)
	}
}

// A strategy that always finds something to compute ends the part about decoding, like the others.
func TestEndlessSpansAreCaught(t *testing.T) {
	s := altered{change: func(m *changed) {
		m.next = func(dst []kvcache.Span, id kvcache.SeqID, _ int) []kvcache.Span {
			return append(dst, kvcache.Span{Seq: id, Len: 1})
		}
	}}
	r := record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, s, "decode without allocating") })
	require.Contains(t, r.failure, "Next of sequence 0 still gives spans after 513")
}
