package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
)

// MemoryPlan says what a model needs of a device's memory, before any of it is taken. All sizes are in bytes.
type MemoryPlan struct {
	Available int64 // on the device; 0 if unknown
	Reserve   int64 // of that, left free for the program and others

	WeightsMapped int64 // read where the files are mapped: they need memory to be fast, not to work
	Weights       int64 // copied, rounded, quantized or made up
	Activations   int64 // of one step, logits included
	Graphs        int64 // inputs of the steps that a GPU replays
	Rope          int64 // table of angles
	KV            int64 // Blocks and the null block

	KVBytesPerToken int
	BlockTokens     int
	Blocks          int // without the null block
	Context         int // tokens of the longest sequence
	Sequences       int // most at once
	StepTokens      int

	LargestContext int // tokens of one sequence that would fit, at most the model's own limit; 0 if the memory is unknown
	LargestBatch   int // sequences of Context tokens whose keys and values would fit
}

// CacheTokens is the capacity of the KV cache.
func (p MemoryPlan) CacheTokens() int { return p.Blocks * p.BlockTokens }

// Total is what is taken if every block of the cache is used, mapped weights left out.
func (p MemoryPlan) Total() int64 { return p.Weights + p.Activations + p.Graphs + p.Rope + p.KV }

// PlanMemory works out what a model needs with the given options on a device with info. If that is more than there is, the
// error matches ErrNoMemory and says what would fit; the plan is valid all the same.
func PlanMemory(ck *model.Checkpoint, o Options, info kernels.Info) (MemoryPlan, error) {
	if o.Checkpoint == nil {
		o.Checkpoint = ck
	}
	o, err := o.settle()
	if err != nil {
		return MemoryPlan{}, err
	}
	o = o.settleDevice(info)
	c := ck.Config
	if err := errors.Join(o.checkModel(c), o.checkDevice(info)); err != nil {
		return MemoryPlan{}, err
	}
	p := MemoryPlan{
		Available:       info.AvailableBytes,
		Reserve:         o.reserve(info),
		KVBytesPerToken: c.KVBytesPerToken(o.KV),
		BlockTokens:     o.BlockTokens,
		Context:         o.MaxContext,
		Sequences:       o.MaxSequences,
		StepTokens:      o.StepTokens,
	}
	if p.Context == 0 {
		p.Context = c.MaxPositions
	}
	p.WeightsMapped, p.Weights = ck.WeightMemory(o.Weights)
	if info.Kind == "cuda" { // it has memory of its own
		p.Weights, p.WeightsMapped = p.Weights+p.WeightsMapped, 0
	}
	needs := model.PlanMemory(c, o.load(p.Context), activationBytes(info))
	angles := needs.Rope / int64(p.Context)
	p.Activations, p.Graphs, p.Rope = needs.Activations, needs.Graphs, needs.Rope
	p.sizeCache(o)
	p.Rope = angles * int64(p.Context)
	p.LargestContext, p.LargestBatch = p.largest(c, angles)
	return p, p.fits(o)
}

// activationBytes is the size of an activation on a kind of device.
func activationBytes(info kernels.Info) int {
	if info.Kind == "cuda" {
		return 2
	}
	return 4
}

// reserve is what is left free of the memory that is available now.
func (o Options) reserve(info kernels.Info) int64 {
	if info.Kind != "cuda" {
		return info.AvailableBytes / 16
	}
	share := o.GPUMemory
	if share == 0 {
		share = defaultGPUMemory
	}
	return int64(float64(info.AvailableBytes) * (1 - share))
}

// load are the options that the model is loaded with.
func (o Options) load(context int) model.LoadOptions {
	return model.LoadOptions{
		MaxRows:      o.StepTokens,
		MaxLogitRows: o.MaxSequences, // prompt log-probabilities take as many turns as they need
		MaxContext:   context,
		Weights:      o.Weights,
		WeightsCache: o.WeightsCache,
		Log:          o.Log,
	}
}

// sizeCache sets the blocks: those asked for, or the default or what fits, whatever is less. A context that was not asked
// for is cut to what the cache holds.
func (p *MemoryPlan) sizeCache(o Options) {
	tokens := o.CacheTokens
	if tokens == 0 {
		tokens = p.Context + o.MaxSequences*defaultSequenceTokens
		if o.GPUMemory > 0 && p.Available > 0 {
			tokens = p.roomTokens(0)
		}
		if p.Available > 0 {
			// A cache of one block is refused by fits, which says what is wrong.
			tokens = max(min(tokens, p.roomTokens(p.WeightsMapped)), 1)
		}
	}
	p.Blocks = blocksFor(tokens, p.BlockTokens)
	p.KV = p.blockBytes() * int64(p.Blocks+1)
	if o.MaxContext == 0 {
		p.Context = min(p.Context, p.CacheTokens())
	}
}

func (p *MemoryPlan) blockBytes() int64 { return int64(p.KVBytesPerToken) * int64(p.BlockTokens) }

// roomTokens is the tokens of whole blocks that fit beside everything else and the null block.
func (p *MemoryPlan) roomTokens(beside int64) int {
	room := p.Available - p.Reserve - p.Weights - p.Activations - p.Graphs - p.Rope - beside
	return int(max(room/p.blockBytes()-1, 0)) * p.BlockTokens
}

// largest works out the longest sequence and the largest batch that would fit. A longer sequence needs a longer table of
// angles as well, of angles bytes a position.
func (p *MemoryPlan) largest(c model.Config, angles int64) (context, batch int) {
	if p.Available == 0 {
		return 0, 0
	}
	room := p.Available - p.Reserve - p.Weights - p.Activations - p.Graphs - p.blockBytes()
	context = int(max(room/(p.blockBytes()+angles*int64(p.BlockTokens)), 0)) * p.BlockTokens
	return min(context, c.MaxPositions), p.roomTokens(0) / (blocksFor(p.Context, p.BlockTokens) * p.BlockTokens)
}

// leastContext is the context below which a default is no use to anybody.
const leastContext = 256

// fits is the error of a plan that needs more memory than there is.
func (p *MemoryPlan) fits(o Options) error {
	if p.Available == 0 {
		return nil
	}
	tooSmall := o.MaxContext == 0 && o.CacheTokens == 0 && p.Context < leastContext
	if p.Context > p.CacheTokens() { // asked for, and the cache was cut to what fits
		p.Blocks = blocksFor(p.Context, p.BlockTokens)
		p.KV = p.blockBytes() * int64(p.Blocks+1)
	}
	if p.Total() <= p.Available-p.Reserve && !tooSmall {
		return nil
	}
	advice := fmt.Sprintf("a context of %d tokens would fit", p.LargestContext)
	switch room := p.roomTokens(0); {
	case p.LargestContext < p.BlockTokens:
		advice = "no context would fit: use a smaller model, or a machine with more memory"
	case room >= p.Context:
		advice = fmt.Sprintf("a cache of %d tokens would fit", room)
	}
	return fmt.Errorf("%w: %s for a cache of %d tokens, %s for weights and %s for a step, of %s that may be used; %s",
		ErrNoMemory, bytesText(p.KV), p.CacheTokens(), bytesText(p.Weights), bytesText(p.Activations+p.Graphs+p.Rope),
		bytesText(p.Available-p.Reserve), advice)
}

// String is the plan as a table.
func (p MemoryPlan) String() string {
	var b strings.Builder
	row := func(name, value, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-22s %10s  %s", name, value, note), " ") + "\n")
	}
	if p.WeightsMapped > 0 {
		row("weights, mapped", bytesText(p.WeightsMapped), "read from the file's map")
	}
	if p.Weights > 0 {
		row("weights, in memory", bytesText(p.Weights), "")
	}
	row("activations", bytesText(p.Activations), fmt.Sprintf("%d tokens a step", p.StepTokens))
	if p.Graphs > 0 {
		row("graphs", bytesText(p.Graphs), "inputs of steps that are replayed")
	}
	row("rope", bytesText(p.Rope), fmt.Sprintf("%d positions", p.Context))
	row("KV cache", bytesText(p.KV), fmt.Sprintf("%d tokens in %d blocks, %d bytes a token", p.CacheTokens(), p.Blocks, p.KVBytesPerToken))
	row("total", bytesText(p.Total()), "")
	if p.Available > 0 {
		row("available", bytesText(p.Available), fmt.Sprintf("%s of it left free", bytesText(p.Reserve)))
		row("rest", bytesText(max(p.Available-p.Total(), 0)), "for the program and others")
		row("largest context", fmt.Sprint(p.LargestContext), "tokens of one sequence")
		row("largest batch", fmt.Sprint(p.LargestBatch), fmt.Sprintf("sequences of %d tokens", p.Context))
	}
	return b.String()
}

// bytesText is a size as people read it.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	for ; size >= 1024 && unit < len(units)-1; unit++ {
		size /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}
