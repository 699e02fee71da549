package engine

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
)

// spaced reads a prompt's chunks at a distance from the head, in the plainest way: it shares nothing, and one sequence runs.
type spaced struct {
	kvcache.Standard
	ends []int // of head and chunks
	gap  int
}

func (s spaced) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	m, err := s.Standard.NewManager(p, g)
	return &spacedManager{Manager: m, spaced: s, blockTokens: g.BlockTokens}, err
}

type spacedManager struct {
	kvcache.Manager
	spaced
	blockTokens int
	done        int // tokens given
}

// Next ends a span where a chunk ends.
func (m *spacedManager) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	for _, end := range m.ends {
		if m.done < end {
			budget = min(budget, end-m.done)
			break
		}
	}
	before := len(dst)
	dst = m.Manager.Next(dst, id, budget)
	for _, s := range dst[before:] {
		m.done += s.Len
	}
	return dst
}

// View shows a chunk's rows the head and the chunk, and all others everything.
func (m *spacedManager) View(dst []kvcache.Segment, s kvcache.Span) []kvcache.Segment {
	all := m.Manager.View(nil, s)[0].Blocks
	add := func(start, end, pos, stored int) {
		first := start / m.blockTokens
		dst = append(dst, kvcache.Segment{
			Blocks: all[first : (end+m.blockTokens-1)/m.blockTokens], Off: start % m.blockTokens, Len: end - start, Pos: pos, Stored: stored,
		})
	}
	head, end := m.ends[0], s.Start+s.Len
	add(0, min(head, end), 0, 0)
	start := head
	for _, chunk := range m.ends[1:] { // its own rows see the head and nothing else
		if start <= s.Start && s.Start < chunk {
			add(start, end, head+m.gap, head+m.gap)
			return dst
		}
		start = chunk
	}
	if end <= head {
		return dst
	}
	start = head
	for _, chunk := range m.ends[1:] {
		add(start, chunk, start, head+m.gap)
		start = chunk
	}
	add(start, end, start, start)
	return dst
}

// TestHeadGapIsWhatItSays: chunks at a distance from the head give the answers of a plain computation of the same; they are
// found in any order, and not at another distance, also on disk.
func TestHeadGapIsWhatItSays(t *testing.T) {
	q := evaluations(t, "documents_test.jsonl")[3]
	text := openTiny(t, nil).Tokenizer()
	parts := []string{"<|im_start|>system\nAnswer from the documents.<|im_end|>\n<|im_start|>user\n"}
	for _, d := range q.Documents {
		parts = append(parts, d+"\n")
	}
	parts = append(parts, q.Question+"<|im_end|>\n<|im_start|>assistant\n")
	var chunks []Chunk
	var ends []int
	var tokens []int32
	for _, part := range parts {
		chunk := text.Encode(nil, part)
		tokens = append(tokens, chunk...)
		chunks, ends = append(chunks, Chunk{Tokens: chunk}), append(ends, len(tokens))
	}
	ask := func(e *Engine, r Request) ([]Token, *Result) {
		r.Force, r.Logprobs = text.Encode(nil, q.Answer), maxTops
		var answer []Token
		for token, err := range e.Generate(context.Background(), r) {
			require.NoError(t, err)
			answer = append(answer, token)
		}
		return answer, answer[len(answer)-1].Result
	}
	reversed := slices.Clone(chunks)
	slices.Reverse(reversed[1 : len(reversed)-1])
	dir := t.TempDir()
	found := func(r *Result) int { return r.Usage.PromptTokens - r.Usage.CachedTokens }
	var before []Token // of the gap before
	for _, gap := range []int{0, 100, 512} {
		want, _ := ask(openTiny(t, func(o *Options) { o.Cache, o.MaxSequences = spaced{ends: ends[:len(ends)-1], gap: gap}, 1 }), Request{Tokens: tokens})
		c := kvcache.Chunked{Mode: kvcache.Independent, AfterHead: true, HeadGap: gap}
		if gap == 0 {
			c.HeadGap = kvcache.NoHeadGap
		}
		e := openTiny(t, func(o *Options) { o.Cache = kvcache.Reuse{Over: c, Tier: disk.Tier{Dir: dir}} })
		got, first := ask(e, Request{Chunks: chunks})
		require.Less(t, logitsApart(want, got), 0.01, "gap %d", gap)
		if before != nil {
			require.Greater(t, logitsApart(before, got), 0.05, "gap %d makes no difference", gap)
		}
		before = want
		require.False(t, first.Exact)
		head := ends[0] // of another gap's engine, its full blocks are on disk
		if gap == 0 {
			require.Equal(t, len(tokens), found(first))
		} else {
			require.Equal(t, len(tokens)-head, found(first), "chunks of another gap are found on disk")
		}
		_, second := ask(e, Request{Chunks: reversed})
		require.Equal(t, len(chunks[len(chunks)-1].Tokens), found(second), "the question is computed, and nothing else")
		require.False(t, second.Exact)
		_, third := ask(e, Request{Chunks: []Chunk{chunks[0], chunks[len(chunks)-1]}})
		require.True(t, third.Exact)
		require.NoError(t, e.Close())
	}
}

// logitsApart is the mean difference of the logits of the most likely tokens.
func logitsApart(a, b []Token) float64 {
	sum, n := 0.0, 0
	for i := range a {
		known := map[int32]float32{}
		for _, c := range a[i].Top {
			known[c.ID] = c.Logit
		}
		for _, c := range b[i].Top {
			if logit, ok := known[c.ID]; ok {
				sum += math.Abs(float64(logit - c.Logit))
				n++
			}
		}
	}
	return sum / float64(n)
}
