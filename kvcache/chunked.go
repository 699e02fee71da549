package kvcache

import (
	"errors"
	"fmt"
)

// Chunked shares chunks: runs of a prompt that the request has named ([Prompt.Chunks]), or that Auto has cut. Each lies in blocks
// of its own, so that it is shared to its last token. The prompt's last chunk is the question, which is private.
type Chunked struct {
	Mode Mode
	// AfterHead reads an independent chunk after the prompt's first one, which is then part of what its content means.
	AfterHead bool
	// HeadGap is how many positions stay free between the head and a chunk that is read after it, where the context is long
	// enough. 0: DefaultHeadGap; NoHeadGap: each is read as if it were the first one. What is best depends on the model:
	// docs/strategies.md.
	HeadGap int
	// RecomputeFirst is how many tokens at the beginning of each independent chunk are computed again in their context.
	RecomputeFirst int
	// Auto cuts the prompts that come without chunks.
	Auto Auto
}

// The distances from the head that have a name.
const (
	DefaultHeadGap = 512
	NoHeadGap      = -1
)

// Mode says what a chunk's keys and values are computed from.
type Mode uint8

// The modes.
const (
	// Exact: from everything before the chunk, which is found only after the same chunks. The answers are those of Standard.
	Exact Mode = iota
	// Independent: from the chunk alone, or after the head. It is stored once and stands anywhere, in any order. From the first
	// layer on that is an approximation of what the model would compute.
	Independent
)

// Auto cuts prompts into chunks. The zero value does not.
type Auto struct {
	// Tokens in a chunk: exactly, or on average if it is cut by content.
	Tokens int
	// ByContent cuts where the tokens themselves say so: what is put in or left out changes the chunks around it, and no others.
	ByContent bool
}

// Name is "chunked".
func (Chunked) Name() string { return "chunked" }

// NewManager makes a manager over a pool that nothing else uses. It refuses independent chunks where keys cannot be moved.
func (c Chunked) NewManager(p *Pool, g Geometry) (Manager, error) {
	pol, err := c.policy(g)
	if err != nil {
		return nil, err
	}
	return newSharing(p, g, pol)
}

func (c Chunked) policy(g Geometry) (policy, error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	independent := c.Mode == Independent
	switch {
	case c.Mode > Independent:
		wrong("no mode %d", c.Mode)
	case independent && !g.AnyPosition:
		wrong("independent chunks stand at any position, and the model's keys cannot be moved: %w", errors.ErrUnsupported)
	case !independent && (c.AfterHead || c.RecomputeFirst != 0):
		wrong("AfterHead and RecomputeFirst are for independent chunks")
	}
	if c.RecomputeFirst < 0 {
		wrong("RecomputeFirst is %d, want 0 or more", c.RecomputeFirst)
	}
	switch {
	case c.HeadGap < NoHeadGap || c.HeadGap != 0 && !c.AfterHead:
		wrong("HeadGap is %d, want NoHeadGap or more, and 0 without AfterHead", c.HeadGap)
	case c.HeadGap == NoHeadGap:
		c.HeadGap = 0
	case c.AfterHead && c.HeadGap == 0:
		c.HeadGap = DefaultHeadGap
	}
	if c.Auto.Tokens < 0 || c.Auto.ByContent && c.Auto.Tokens < 2 {
		wrong("Auto.Tokens is %d, want 0 or more, and at least 2 to cut by content", c.Auto.Tokens)
	}
	if len(errs) > 0 {
		return policy{}, fmt.Errorf("kvcache: chunked: %w", errors.Join(errs...))
	}
	k := &chunker{Chunked: c, most: g.MaxTokens}
	return policy{name: c.Name(), cut: k.cut, gap: k.gap, apart: independent, chunks: true}, nil
}

// chunker cuts prompts into pieces.
type chunker struct {
	Chunked
	most int   // tokens in the context
	ends []int // scratch
}

// gap is how far from a head of so many tokens a chunk is read: with its end within the context.
func (k *chunker) gap(head, tokens int) int { return max(min(k.HeadGap, k.most-head-tokens), 0) }

func (k *chunker) cut(dst []piece, p Prompt) ([]piece, error) {
	n := len(p.Tokens)
	ends := p.Chunks
	if ends == nil && k.Auto.Tokens > 0 {
		k.ends = k.Auto.Cut(k.ends[:0], p.Tokens)
		ends = k.ends
	}
	if k.Mode == Independent && p.ComputeAll {
		ends = nil // log-probabilities of a prompt are those in its context
	}
	start, head := 0, 0
	for i, end := range ends {
		if end < start || end > n {
			return dst, fmt.Errorf("chunk %d ends at token %d, want %d to %d", i, end, start, n)
		}
		if end == n {
			break
		}
		if end > start {
			dst = k.add(dst, start, end, head)
		}
		if start = end; head == 0 && k.AfterHead {
			head = end
		}
	}
	return append(dst, piece{start: start, end: n, seen: start}), nil
}

// add appends the pieces of one chunk. head is where the prompt's first chunk ends, if it counts.
func (k *chunker) add(dst []piece, start, end, head int) []piece {
	gap := 0
	if head > 0 {
		gap = k.gap(head, end-start)
	}
	if k.Mode == Exact || start == head && gap == 0 {
		return append(dst, piece{start: start, end: end, seen: start, keyed: true, closed: true})
	}
	again := min(k.RecomputeFirst, end-start)
	if again > 0 {
		dst = append(dst, piece{start: start, end: start + again, seen: start, closed: true})
	}
	if again == end-start {
		return dst
	}
	return append(dst, piece{start: start, end: end, seen: head, gap: gap, skip: again, keyed: true, closed: true})
}

// Cut appends the ends of the chunks of a prompt, all but the last one's.
func (a Auto) Cut(ends []int, tokens []int32) []int {
	if !a.ByContent {
		for end := a.Tokens; a.Tokens > 0 && end < len(tokens); end += a.Tokens {
			ends = append(ends, end)
		}
		return ends
	}
	// A gear hash (Xia et al. 2014): each token shifts out the one 64 before it. A chunk ends where the sum is small, which is one
	// place in Tokens, and is a quarter to four times as long.
	least, most, limit := max(a.Tokens/4, 1), 4*a.Tokens, ^uint64(0)/uint64(a.Tokens)
	start, sum := 0, uint64(0)
	for i, t := range tokens {
		sum = sum<<1 + gear(t)
		if n := i + 1 - start; n >= least && sum < limit || n == most {
			start = i + 1
			ends = append(ends, start)
		}
	}
	return ends
}

// gear is a random number for each token: SplitMix64's (Steele et al. 2014).
func gear(token int32) uint64 {
	z := (uint64(uint32(token)) + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
