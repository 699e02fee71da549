package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tokenizer"
)

// Info is what does not change while an engine is open.
type Info struct {
	Model      string // as asked for
	Path       string // directory, or ""
	Synthetic  bool   // made-up weights
	Config     model.Config
	Generation model.Generation
	Parameters int64
	Device     kernels.Info // as of Open
	Strategy   string
	Weights    kernels.Format // of the matrices that products read
	KV         kernels.KVType
	Memory     MemoryPlan // Context, Sequences, StepTokens, Blocks and sizes
}

// Stats is what an engine has done since Open.
type Stats struct {
	Model        string
	Synthetic    bool
	Device       string
	KernelSet    string
	KernelReason string // why KernelSet is "go"
	Strategy     string
	Weights      string // format of the matrices that products read: "bf16" or "int8"

	Uptime  time.Duration
	Waiting int // requests
	Running int

	Steps            int64
	TokensComputed   int64 // rows that went through the forward pass, counted there
	PromptTokens     int64 // of requests that have their first token
	CachedTokens     int64 // of those, not computed for the request
	CompletionTokens int64 // sampled
	Preemptions      int64

	// SubmitTime is what all steps have taken to hand over to the device; where it works on its own (a GPU), WaitTime is what
	// the step loop has waited for answers since. The rest of a step is planning and committing.
	SubmitTime time.Duration
	WaitTime   time.Duration

	Blocks       int // capacity
	BlockTokens  int
	BlocksUsed   int   // referenced by sequences, by the pool's books
	BlocksCached int   // held for reuse, free to evict
	BlocksPeak   int   // most used at any step since Open or ResetPeak
	KVBytesUsed  int64 // of BlocksUsed
	KVBytesPeak  int64 // of BlocksPeak
}

// Info describes the engine and its model.
func (e *Engine) Info() Info { return e.info }

// Tokenizer is the model's; nil if it has none.
func (e *Engine) Tokenizer() *tokenizer.Tokenizer { return e.text }

// Stats may be called at any time; the counts are those of the last step.
func (e *Engine) Stats() Stats {
	state, peak := e.core.state(), int(e.core.scheduler.peakBlocks.Load())
	accepted := e.core.inbox.accepted()
	plan := &e.info.Memory
	return Stats{
		Model:        e.info.Model,
		Synthetic:    e.info.Synthetic,
		Device:       e.info.Device.Name,
		KernelSet:    e.info.Device.KernelSet,
		KernelReason: e.info.Device.KernelReason,
		Strategy:     e.info.Strategy,
		Weights:      e.info.Weights.String(),

		Uptime:  time.Since(e.opened),
		Waiting: max(accepted-state.running, 0),
		Running: state.running,

		Steps:            state.count.steps,
		TokensComputed:   e.core.scheduler.runner.computed(),
		PromptTokens:     state.count.promptTokens,
		CachedTokens:     state.count.cachedTokens,
		CompletionTokens: state.count.completionTokens,
		Preemptions:      state.count.preemptions,
		SubmitTime:       state.count.submitTime,
		WaitTime:         state.count.waitTime,

		Blocks:       plan.Blocks,
		BlockTokens:  plan.BlockTokens,
		BlocksUsed:   state.blocksUsed,
		BlocksCached: state.blocksCached,
		BlocksPeak:   peak,
		KVBytesUsed:  plan.blockBytes() * int64(state.blocksUsed),
		KVBytesPeak:  plan.blockBytes() * int64(peak),
	}
}

// ResetPeak lets BlocksPeak and KVBytesPeak begin again: benchmarks do so after warming up.
func (e *Engine) ResetPeak() { e.core.scheduler.peakBlocks.Store(0) }

// deviceLine says what computes, and why so slowly if it is plain Go.
func deviceLine(i kernels.Info) string {
	if i.Kind == "cuda" {
		return fmt.Sprintf("engine: %s, %s kernels, %s", i.Name, i.KernelSet, i.Driver)
	}
	line := fmt.Sprintf("engine: %s, %s kernels, %d threads", i.Name, i.KernelSet, i.Threads)
	if i.KernelReason != "" {
		line += " (" + i.KernelReason + ")"
	}
	if i.DriverFound { // nobody without one misses it
		line += "; no GPU: " + i.DeviceReason
	}
	return line
}

// logPlan says what memory is for, line by line, and what was made smaller to fit.
func logPlan(o Options, p MemoryPlan, c model.Config) {
	for line := range strings.Lines(p.String()) {
		o.Log("engine: memory: " + strings.TrimSuffix(line, "\n"))
	}
	if o.MaxContext == 0 && p.Context < c.MaxPositions {
		o.Log(fmt.Sprintf("engine: the model's own context of %d tokens is cut to what the cache holds", c.MaxPositions))
	}
	if p.Available > 0 && p.WeightsMapped+p.Total() > p.Available {
		o.Log(fmt.Sprintf("engine: weights of %s and a full cache exceed the %s available: weights would be read from disk again and again",
			bytesText(p.WeightsMapped), bytesText(p.Available)))
	}
}
