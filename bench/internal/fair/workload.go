package fair

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
)

// prompt is token ids in the order of its chunks: what other prompts may have as well comes first, what is its own last.
type prompt [][]int32

func (p prompt) tokens() (n int) {
	for _, c := range p {
		n += len(c)
	}
	return n
}

// join is the prompt's ids in one new piece.
func (p prompt) join() []int32 {
	all := make([]int32, 0, p.tokens())
	for _, c := range p {
		all = append(all, c...)
	}
	return all
}

// workload is batches of prompts that are answered one batch after another in one cache.
type workload struct {
	name      string
	about     string // one line
	prefix    int    // tokens that the prompts of a batch have in common; 0 where that is not one number
	batches   int
	sequences int  // in a batch
	longest   int  // tokens of a prompt
	inputs    int  // tokens of all prompts
	repeating bool // something is there twice
	quotes    bool // prompts hold the answers to earlier batches
	// draw makes the prompts of batch b. earlier are the answers to all batches before it.
	draw func(b int, p *suite.Prompts, earlier [][][]int32) []prompt
}

// seed is the workload's own, so that one that is left out changes no other.
func (w *workload) seed(seed int64) int64 {
	h := fnv.New32a()
	h.Write([]byte(w.name))
	return seed + int64(h.Sum32())
}

// request asks for the answer to number i of a batch's prompts, whose chunks are named where a strategy wants to know them.
func (w *workload) request(s *settings, p prompt, batch, i int, chunks bool) engine.Request {
	r := engine.Request{
		MaxTokens: s.Output, IgnoreEOS: true,
		Sampling: engine.Sampling{Temperature: s.Temperature, Seed: uint64(s.Seed) + uint64(batch*w.sequences+i)},
	}
	if !chunks {
		r.Tokens = p.join()
		return r
	}
	for _, c := range p {
		r.Chunks = append(r.Chunks, engine.Chunk{Tokens: c})
	}
	return r
}

// requests are those of all batches.
func (w *workload) requests(s *settings, batches [][]prompt, chunks bool) [][]engine.Request {
	all := make([][]engine.Request, len(batches))
	for b, prompts := range batches {
		for i, p := range prompts {
			all[b] = append(all[b], w.request(s, p, b, i, chunks))
		}
	}
	return all
}

// drawAll makes the prompts of all batches. Answers that later prompts quote come from ask, which answers one batch.
func (w *workload) drawAll(ctx context.Context, p *suite.Prompts, ask func(context.Context, int, []prompt) ([][]int32, error)) ([][]prompt, error) {
	var batches [][]prompt
	var earlier [][][]int32
	for b := range w.batches {
		prompts := w.draw(b, p, earlier)
		batches = append(batches, prompts)
		if !w.quotes || b == w.batches-1 {
			continue
		}
		answers, err := ask(ctx, b, prompts)
		if err != nil {
			return nil, fmt.Errorf("fair: answering batch %d of %q, which the next one quotes: %w", b, w.name, err)
		}
		earlier = append(earlier, answers)
	}
	return batches, nil
}

// poolBlocks is what a cache needs to hold all of it at once, under any strategy: each chunk may end in a block of its own.
func poolBlocks(batches [][]prompt, output, blockTokens int) int {
	blocks := 0
	for _, batch := range batches {
		for _, p := range batch {
			for _, c := range p {
				blocks += (len(c) + blockTokens - 1) / blockTokens
			}
			blocks += (output+blockTokens-1)/blockTokens + 1
		}
	}
	return blocks
}
