package throughput

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
)

// shape is a point: so many requests in one call.
type shape struct {
	Workload string
	Batch    int
	Input    int // tokens of each prompt after Depth; 0 where they differ
	Output   int // tokens of each answer; 0 where they differ
	Depth    int // tokens of each prompt before Input
	Prefix   int // tokens before those, the same in all prompts
	prompts  []int
	outputs  []int
	tokens   [][]int32 // of each prompt, where drawing the lengths has drawn them too
}

// nano-vllm's own benchmark: 256 requests, a prompt's length drawn before its ids, all answers' lengths after all prompts,
// at seed 0. https://github.com/GeeeekExplorer/nano-vllm, bench.py
const (
	nanoRequests     = 256
	nanoLow          = 100
	nanoHigh         = 1024
	nanoContext      = 4096
	nanoWarmupPrompt = "Benchmark: "
	nanoWarmupTokens = 64

	nanoInputTokens  = 142_827 // what its authors' machine drew at seed 0
	nanoOutputTokens = 133_966
)

// shapes are the points to measure, without their prompts' ids.
func (s *settings) shapes() ([]shape, error) {
	if s.Workload == "nano" {
		n, err := drawNano(suite.NewPrompts(s.Seed, nanoAnyVocab), s.Seed)
		if err != nil {
			return nil, err
		}
		return []shape{n.first(s.Requests)}, nil
	}
	if s.Workload != "grid" {
		return s.prefixShapes(), nil
	}
	var all []shape
	for _, depth := range s.Depth {
		for _, output := range s.Output {
			for _, input := range s.Input {
				for _, batch := range s.Batch {
					p := shape{Workload: s.Workload, Batch: batch, Input: input, Output: output, Depth: depth}
					for range batch {
						p.prompts, p.outputs = append(p.prompts, depth+input), append(p.outputs, output)
					}
					all = append(all, p)
				}
			}
		}
	}
	return all, nil
}

// nanoAnyVocab is larger than any id that is drawn: the lengths do not depend on it.
const nanoAnyVocab = 1 << 20

// drawNano draws all 256 requests and, at seed 0, compares the totals with those that are published.
func drawNano(prompts *suite.Prompts, seed int64) (shape, error) {
	p := shape{Workload: "nano", Batch: nanoRequests}
	for range nanoRequests {
		ids := prompts.Draw(nanoHigh)
		p.tokens, p.prompts = append(p.tokens, ids), append(p.prompts, len(ids))
	}
	for range nanoRequests {
		p.outputs = append(p.outputs, prompts.Length(nanoLow, nanoHigh))
	}
	if in, out := total(p.prompts), total(p.outputs); seed == 0 && (in != nanoInputTokens || out != nanoOutputTokens) {
		return p, fmt.Errorf("throughput: drawing nano-vllm's workload: got %d prompt and %d output tokens, want %d and %d", in, out, nanoInputTokens, nanoOutputTokens)
	}
	return p, nil
}

// first is the first n requests.
func (p shape) first(n int) shape {
	p.Batch, p.prompts, p.outputs, p.tokens = n, p.prompts[:n], p.outputs[:n], p.tokens[:n]
	return p
}

// requests are the shape's, with ids from prompts or those that were drawn with the lengths, reduced to the vocabulary.
func (p *shape) requests(s *settings, prompts *suite.Prompts) []engine.Request {
	all := make([]engine.Request, p.Batch)
	var prefix []int32
	if p.Prefix > 0 {
		prefix = prompts.IDs(p.Prefix)
	}
	for i := range all {
		all[i] = engine.Request{
			MaxTokens: p.outputs[i], IgnoreEOS: true,
			Sampling: engine.Sampling{Temperature: s.Temperature, Seed: uint64(s.Seed) + uint64(i)},
		}
		if p.tokens == nil {
			all[i].Tokens = append(slices.Clone(prefix), prompts.IDs(p.prompts[i]-p.Prefix)...)
			continue
		}
		all[i].Tokens = append([]int32(nil), p.tokens[i]...)
		if prompts.Modulo > 0 {
			for k := range all[i].Tokens {
				all[i].Tokens[k] %= int32(prompts.Modulo)
			}
		}
	}
	return all
}

// label is the shape for people, name for Go benchmark lines.
func (p *shape) label() string {
	if p.Workload == "nano" {
		return fmt.Sprintf("nano-vllm's workload, %d requests", p.Batch)
	}
	if p.Workload != "grid" {
		return fmt.Sprintf("%s: batch %d, prefix %d, input %d, output %d", p.Workload, p.Batch, p.Prefix, p.Input, p.Output)
	}
	return fmt.Sprintf("batch %d, input %d, output %d, depth %d", p.Batch, p.Input, p.Output, p.Depth)
}

func (p *shape) name() string {
	if p.Workload == "nano" {
		return fmt.Sprintf("workload=nano/requests=%d", p.Batch)
	}
	if p.Workload != "grid" {
		return fmt.Sprintf("workload=%s/batch=%d/prefix=%d/input=%d/output=%d", p.Workload, p.Batch, p.Prefix, p.Input, p.Output)
	}
	return fmt.Sprintf("workload=grid/batch=%d/input=%d/output=%d/depth=%d", p.Batch, p.Input, p.Output, p.Depth)
}

func total(counts []int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// counts is a flag's list: "1,8", "1-64*2", "128-512+128".
type counts []int

// String is the list with commas, as pflag prints a default.
func (c *counts) String() string {
	text, _ := json.Marshal(*c)
	return strings.Trim(string(text), "[]")
}

// Type is the name of the flag's values.
func (c *counts) Type() string { return "counts" }

// Set parses a list.
func (c *counts) Set(text string) error {
	var list counts
	for _, part := range strings.Split(text, ",") {
		first, rest, isRange := strings.Cut(strings.TrimSpace(part), "-")
		n, err := strconv.Atoi(first)
		if err != nil {
			return fmt.Errorf("%q is no count and no range such as 1-64*2 or 128-512+128", part)
		}
		if !isRange {
			list = append(list, n)
			continue
		}
		if list, err = appendRange(list, n, rest); err != nil {
			return fmt.Errorf("%q: %w", part, err)
		}
	}
	*c = list
	return nil
}

// appendRange appends n and what follows up to a last count, by a factor or a step: "64*2", "512+128", "4" (by 1).
func appendRange(list counts, n int, rest string) (counts, error) {
	split := strings.IndexAny(rest, "*+")
	lastText, step, factor := rest, 1, 1
	var err error
	if split >= 0 {
		lastText = rest[:split]
		by := &step
		if rest[split] == '*' {
			step, by = 0, &factor
		}
		if *by, err = strconv.Atoi(rest[split+1:]); err != nil {
			return nil, fmt.Errorf("%q is no number", rest[split+1:])
		}
	}
	last, err := strconv.Atoi(lastText)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", lastText)
	}
	const most = 1000
	for ; n <= last; n = n*factor + step {
		if list = append(list, n); len(list) > most || n*factor+step <= n {
			return nil, fmt.Errorf("the range does not grow, or has more than %d counts", most)
		}
	}
	return list, nil
}
