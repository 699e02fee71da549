package throughput

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kvcache"
	hosttier "github.com/quire-llm/quire/kvcache/host"
)

// variant is a way to run the same requests.
type variant struct {
	name      string // strategy, or strategy:attention
	strategy  kvcache.Strategy
	attention attention.Mode
}

// The variants of evicted.
const (
	recomputed = "recomputed"
	fromHost   = "host tier"
)

// variants are those of the settings, of which there is at least one.
func (s *settings) variants() ([]variant, error) {
	if s.Workload == "evicted" {
		return []variant{
			{recomputed, kvcache.Reuse{}, attention.Auto},
			{fromHost, kvcache.Reuse{Tier: hosttier.Tier{Bytes: 1 << 40}}, attention.Auto}, // takes what the prefixes want
		}, nil
	}
	var all []variant
	for _, name := range s.Variants {
		strategy, mode, _ := strings.Cut(name, ":")
		flags := cli.EngineFlags{Cache: cli.StrategyFlags{Name: strategy}, Attention: mode}
		o, err := flags.Options()
		if err != nil {
			return nil, err
		}
		all = append(all, variant{name, o.Cache, o.Attention})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("at least one must be named")
	}
	return all, nil
}

// prefixShapes are the points of shared, warm and evicted. The latter two have one request at a time.
func (s *settings) prefixShapes() []shape {
	batches := s.Batch
	if s.Workload != "shared" {
		batches = counts{1}
	}
	var all []shape
	for _, prefix := range s.Prefix {
		for _, output := range s.Output {
			for _, input := range s.Input {
				for _, batch := range batches {
					p := shape{Workload: s.Workload, Batch: batch, Input: input, Output: output, Prefix: prefix}
					for range batch {
						p.prompts, p.outputs = append(p.prompts, prefix+input), append(p.outputs, output)
					}
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// warmCalls is how many requests meet a warm prefix, after the one that computes it.
const warmCalls = 8

// prefixes is how many of them take turns: where they are to be evicted, each drives the other out of the cache.
func (p *shape) prefixes() int {
	if p.Workload == "evicted" {
		return 2
	}
	return 1
}

// evictingCache is a cache's size that has room for one of the shape's requests only.
func (p *shape) evictingCache(blockTokens int) int {
	return ((p.prompts[0]+p.outputs[0])/blockTokens + 2) * blockTokens
}

// batches are the shape's requests, one call after another.
func (p *shape) batches(s *settings, prompts *suite.Prompts) [][]engine.Request {
	if p.Workload != "warm" && p.Workload != "evicted" {
		return [][]engine.Request{p.requests(s, prompts)}
	}
	many := *p
	many.Batch = 1 + warmCalls
	for range warmCalls {
		many.prompts, many.outputs = append(many.prompts, p.prompts[0]), append(many.outputs, p.outputs[0])
	}
	groups := make([][]engine.Request, p.prefixes())
	for i := range groups {
		groups[i] = many.requests(s, prompts)
	}
	var all [][]engine.Request
	for i := range many.Batch {
		for _, group := range groups {
			all = append(all, group[i:i+1])
		}
	}
	return all
}

// versus compares with the first variant, repeat by repeat: above 1 is faster.
type versus struct {
	Variant string        `json:"variant"`
	Speedup stats.Summary `json:"speedup"`        // of the whole call
	Decode  stats.Summary `json:"decode_speedup"` // of decoding
}

func compare(name string, repeats, first []repeat) *versus {
	var call, decode []float64
	for i := range min(len(repeats), len(first)) {
		a, b := &repeats[i].sample, &first[i].sample
		if a.Incomplete || b.Incomplete || a.TimeSeconds <= 0 {
			continue
		}
		call = append(call, b.TimeSeconds/a.TimeSeconds)
		if rate := b.DecodeTokensPerSec(); rate > 0 {
			decode = append(decode, a.DecodeTokensPerSec()/rate)
		}
	}
	return &versus{name, stats.Summarize(call), stats.Summarize(decode)}
}

// host is what the step loop says of the steps that only decode: how long one takes, and how long it is until the next one begins.
type host struct {
	StepMicros stats.Summary `json:"decode_step_us"`
	GapMicros  stats.Summary `json:"decode_gap_us"`
	// Of the whole call, a step: what the host does while it does not wait for the device, beside it where steps overlap; and what
	// it waits. A device that works only while it is called (a CPU) is not waited for.
	HostMicros float64 `json:"host_us"`
	WaitMicros float64 `json:"wait_us"`
}

func hostOf(steps []engine.StepInfo, sample *suite.Sample) host {
	var took, gaps []float64
	for i, s := range steps {
		if s.PrefillTokens > 0 {
			continue
		}
		took = append(took, float64(s.Duration.Nanoseconds())/1e3)
		if i > 0 && steps[i-1].PrefillTokens == 0 {
			before := &steps[i-1]
			gaps = append(gaps, float64(max(s.Start.Sub(before.Start.Add(before.Duration)), 0).Nanoseconds())/float64(time.Microsecond))
		}
	}
	h := host{StepMicros: stats.Summarize(took), GapMicros: stats.Summarize(gaps)}
	if n := float64(sample.Steps); n > 0 {
		h.HostMicros, h.WaitMicros = 1e6*(sample.TimeSeconds-sample.WaitSeconds)/n, 1e6*sample.WaitSeconds/n
	}
	return h
}

// warm is the time to the first token where the cache holds the prefix, or held it, beside that of the request that computed it.
type warm struct {
	ColdSeconds stats.Summary `json:"cold_ttft_seconds"`
	WarmSeconds stats.Summary `json:"warm_ttft_seconds"`
}

// warmOf is that of repeats whose first requests, one for each prefix, are cold.
func warmOf(repeats []repeat, prefixes int) *warm {
	var cold, again []float64
	for i := range repeats {
		if times := repeats[i].sample.TTFTSeconds; len(times) > prefixes {
			cold, again = append(cold, times[:prefixes]...), append(again, times[prefixes:]...)
		}
	}
	return &warm{stats.Summarize(cold), stats.Summarize(again)}
}

// printVariant says what a row is beyond the grid's.
func printVariant(w io.Writer, r row) {
	if r.Warm != nil {
		again := "warm"
		if r.Workload == "evicted" {
			again = "evicted"
		}
		fmt.Fprintf(w, "%s, prefix %d: first token after %.2f ms cold, %.2f ms %s (%.2f to %.2f)\n", r.Variant, r.Prefix,
			1e3*r.Warm.ColdSeconds.P50, 1e3*r.Warm.WarmSeconds.P50, again, 1e3*r.Warm.WarmSeconds.Min, 1e3*r.Warm.WarmSeconds.Max)
		return
	}
	if len(r.Settings.Variants) > 1 || r.Prefix > 0 {
		fmt.Fprintf(w, "%s, prefix %d, %d tokens computed", r.Variant, r.Prefix, r.TokensComputed)
		if r.Versus != nil {
			s, d := r.Versus.Speedup, r.Versus.Decode
			fmt.Fprintf(w, "; over %s: %.3f (%.3f to %.3f), decoding %.3f (%.3f to %.3f)", r.Versus.Variant, s.P50, s.Min, s.Max, d.P50, d.Min, d.Max)
		}
		fmt.Fprintln(w)
	}
}
