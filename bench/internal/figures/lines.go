package figures

import (
	"fmt"
	"strings"
)

// Where the figures beside ours come from: nano-vllm (bb823b3) with CUDA graphs and torch.compile, Qwen3-0.6B's shape with random
// bfloat16 weights, torch 2.11.0, driver 580.159.04, CUDA 13.0, PyTorch's FlashAttention-2 for prompts and a split-KV kernel in Triton for
// decoding.
const peerMachine = "nano-vllm on one H100 80GB"

// goal is what another engine reached, and what was wanted of ours.
type goal struct{ peer, must, wanted string }

// decodeGoals are of requests with 128 tokens in and 256 out, by their number, in tokens a second over the whole call.
var decodeGoals = map[int]goal{
	1: {"489", "1,200", "1,600"}, 8: {"3,039", "6,000", "9,000"}, 32: {"10,496", "18,000", "26,000"},
	128: {"29,518", "37,000", "48,000"}, 256: {"37,159", "44,000", "55,000"},
}

// prefillGoals are of prompts, "requests x tokens", in prompt tokens a second.
var prefillGoals = map[string]goal{
	"16 x 1024": {"175,700", "220,000", "350,000"}, "1 x 4000": {"100,200", "150,000", "250,000"},
}

// sharedGoals are of requests that share 2,048 tokens and have 64 of their own, 128 out.
var sharedGoals = map[int]goal{256: {"12,356", "50,000", "70,000"}, 128: {"11,160", "35,000", "50,000"}}

// warmGoals are of prefixes in the cache, to the first token.
var warmGoals = map[int]goal{1024: {"", "3 ms", "1.5 ms"}, 8192: {"", "4 ms", "2 ms"}}

// attentionGoals are shares of the read bandwidth of decode attention, "sequences x tokens".
var attentionGoals = map[string]goal{"256 x 1024": {"", "65 %", "80 %"}, "64 x 4096": {"", "75 %", "88 %"}, "1 x 32768": {"", "60 %", "80 %"}}

var (
	nanoGoals  = map[string]goal{"bf16": {"15,418", "16,500", "20,000"}, "fp8": {"", "23,000", "30,000"}}
	startGoal  = goal{"27 s", "3 s", "1 s"}
	hostGoal   = goal{"", "300 µs", "100 µs"}
	aloneGoal  = goal{"", "2 %", "0.5 %"}
	longGoals  = map[string]goal{"cascade:ordinary": {"", "2 x", "3 x"}, "standard": {"", "5 x", "8 x"}}
	smallModel = "synthetic:qwen3-0.6b"
)

// line is a row of the table: workload, peer, must, wanted, here, limit, share.
type line [7]string

func (g goal) line(workload, here, limit, share string) line {
	return line{workload, g.peer, g.must, g.wanted, here, limit, share}
}

// limit is the least time of a phase.
func (c *call) limit(p phase) float64 {
	seconds := 0.0
	if c.ReadRoof > 0 {
		seconds = p.Bytes / c.ReadRoof
	}
	if c.PeakRoof > 0 {
		seconds = max(seconds, p.Operations/c.PeakRoof)
	}
	return seconds
}

// decodeLimit is the rate of decoding at the machine's limit and the share of it that was reached; 0 where it is not known.
func (c *call) decodeLimit() (perSec, share float64) {
	least := c.limit(c.Decode)
	if least <= 0 || c.Decode.Seconds <= 0 {
		return 0, 0
	}
	return float64(c.Decode.Tokens) / least, least / c.Decode.Seconds
}

// callLimit is the same of the whole call: prompts at the peak of products, then decoding.
func (c *call) callLimit() (perSec, share float64) {
	least := c.limit(c.Prefill) + c.limit(c.Decode)
	if least <= 0 || c.TimeSeconds <= 0 {
		return 0, 0
	}
	return float64(c.OutputTokens) / least, least / c.TimeSeconds
}

func (r *results) callLines() []line {
	var decode, nano, prefill, shared, long, alone, warm, host []line
	for i := range r.calls {
		c := &r.calls[i]
		if c.Model != smallModel {
			continue
		}
		limit, share := c.decodeLimit()
		here := fmt.Sprintf("%s tok/s; %s while decoding", count(c.PerSec), count(c.DecodePerSec))
		switch {
		case c.Workload == "grid" && c.Versus != nil:
			alone = append(alone, aloneGoal.line(fmt.Sprintf("nothing shared, %s: %s against %s", requests(c.Batch), c.Variant, c.Versus.Variant),
				fmt.Sprintf("%+.1f %% time (%+.1f to %+.1f)", more(c.Versus.Speedup.P50), more(c.Versus.Speedup.Max), more(c.Versus.Speedup.Min)), "", ""))
		case c.Workload == "grid" && c.Input == 128 && c.Output == 256:
			decode = append(decode, decodeGoals[c.Batch].line("decode, "+requests(c.Batch)+" (128 in, 256 out)", here, count(limit)+" decoding", percent(share)))
			if c.Batch == 256 {
				host = append(host, hostGoal.line("host work of a step at batch 256", fmt.Sprintf("%.0f µs beside the device, which is waited for %.0f µs; a step takes %.0f µs", c.Host.HostMicros, c.Host.WaitMicros, c.Host.StepMicros.P50), "", ""))
			}
		case c.Workload == "grid" && c.Output <= 2:
			shape := fmt.Sprintf("%d x %d", c.Batch, c.Input)
			limit, share := 0.0, 0.0
			if least := c.limit(c.Prefill); least > 0 {
				limit, share = float64(c.Prefill.Tokens)/least, least/c.Prefill.Seconds
			}
			prefill = append(prefill, prefillGoals[shape].line("prefill, "+shape, count(c.PrefillPerSec)+" prompt tok/s", count(limit), percent(share)))
		case c.Workload == "nano":
			limit, share := c.callLimit()
			name := "nano-vllm's benchmark"
			if c.Settings.KV != "bf16" {
				name += ", " + c.Settings.KV + " keys and values"
			}
			nano = append(nano, nanoGoals[c.Settings.KV].line(name, here, count(limit), percent(share)))
		case c.Workload == "shared" && c.Prefix == 2048:
			g := goal{}
			if c.Variant == "cascade" {
				g = sharedGoals[c.Batch]
			}
			limit, share := c.callLimit()
			shared = append(shared, g.line(fmt.Sprintf("%s sharing 2,048 + %d own, %d out: %s", requests(c.Batch), c.Input, c.Output, c.Variant), here, count(limit), percent(share)))
		case c.Workload == "shared":
			name := fmt.Sprintf("%s sharing %s + %d own: %s", requests(c.Batch), count(float64(c.Prefix)), c.Input, c.Variant)
			long = append(long, goal{}.line(name, here, count(limit)+" decoding", percent(share)))
			if c.Variant == "cascade" {
				long = append(long, r.ratios(c)...)
			}
		case c.Workload == "evicted":
			warm = append(warm, goal{}.line(fmt.Sprintf("first token with %s tokens that had to leave the cache: %s", count(float64(c.Prefix)), c.Variant),
				fmt.Sprintf("%.2f ms", 1e3*c.Warm.Warm.P50), "", ""))
		case c.Warm != nil:
			warm = append(warm, warmGoals[c.Prefix].line(fmt.Sprintf("first token with %s tokens in the cache", count(float64(c.Prefix))),
				fmt.Sprintf("%.2f ms; %.2f ms without", 1e3*c.Warm.Warm.P50, 1e3*c.Warm.Cold.P50), "", ""))
		}
	}
	var all []line
	for _, some := range [][]line{decode, nano, prefill, shared, long, alone, warm, host} {
		all = append(all, some...)
	}
	return all
}

// ratios are how much faster than the others of its shape a call decodes.
func (r *results) ratios(c *call) []line {
	var all []line
	for i := range r.calls {
		o := &r.calls[i]
		if o.Variant == c.Variant || o.Workload != c.Workload || o.Model != c.Model || o.Batch != c.Batch || o.Prefix != c.Prefix || o.Input != c.Input || o.DecodePerSec <= 0 {
			continue
		}
		all = append(all, longGoals[o.Variant].line(fmt.Sprintf("its decoding against %s", o.Variant), fmt.Sprintf("%.2f x", c.DecodePerSec/o.DecodePerSec), "", ""))
	}
	return all
}

func (r *results) otherLines() []line {
	var all []line
	for _, o := range r.operations {
		if o.Op != "decode" || o.Shape != strings.TrimPrefix(smallModel, "synthetic:") {
			continue
		}
		shape := fmt.Sprintf("%d x %d", o.Sequences, o.Context)
		g := goal{}
		if o.KV == "bf16" {
			g = attentionGoals[shape]
		}
		all = append(all, g.line(fmt.Sprintf("decode attention, %s, %s", shape, o.KV), fmt.Sprintf("%.1f µs, %.2f TB/s", o.Micros, o.BytesPerSec/1e12), "", percent(o.ReadShare)+" of reading"))
	}
	for _, b := range r.begins {
		all = append(all, startGoal.line("process start to first token, file in the page cache", fmt.Sprintf("%.2f s (%.2f to %.2f)", b.FirstToken.P50, b.FirstToken.Min, b.FirstToken.Max), "", ""))
	}
	return all
}

// modelLines are the other shapes.
func (r *results) modelLines() [][]string {
	var all [][]string
	for i := range r.calls {
		c := &r.calls[i]
		if c.Model == smallModel || c.Workload != "grid" || c.Decode.Tokens == 0 {
			continue
		}
		limit, share := c.decodeLimit()
		all = append(all, []string{strings.TrimPrefix(c.Model, "synthetic:"), fmt.Sprintf("%d of %d in, %d out", c.Batch, c.Input, c.Output), count(c.PerSec), count(c.DecodePerSec), count(limit), percent(share)})
	}
	return all
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

// count writes a number as 12,345.
func count(x float64) string {
	text := fmt.Sprintf("%.0f", x)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func percent(share float64) string {
	if share == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

// more is by how many percent the time is longer than the other's.
func more(speedup float64) float64 {
	if speedup <= 0 {
		return 0
	}
	return 100 * (1/speedup - 1)
}
