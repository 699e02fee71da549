package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tokenizer"
)

// inspectFlags are the flags of `quire inspect`.
type inspectFlags struct {
	cli.EngineFlags
	check  bool
	asJSON bool
}

func (a *App) inspectCommand() *cobra.Command {
	var f inspectFlags
	command := &cobra.Command{
		Use:   "inspect [MODEL]",
		Short: "Describe a model: architecture, bytes, and what of it fits this machine",
		Long: `Describe a model: architecture, parameters, bytes, the KV cache's bytes for each token, and the largest context and batch
that fit this machine now. No weight is read, but with --check every one is.`,
		Example: "  quire inspect tiny\n  quire inspect Qwen/Qwen3-0.6B -json\n  quire inspect ~/models/mine -check",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Model = args[0]
			}
			return a.inspect(f)
		},
	}
	flags := command.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.check, "check", false, "read all weights and fail if one is not finite")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	f.RegisterModel(flags)
	f.RegisterDevice(flags)
	f.RegisterCache(flags)
	return command
}

// description is what inspect says of a model.
type description struct {
	Model        string             `json:"model"`
	Synthetic    bool               `json:"synthetic"`
	Architecture model.Architecture `json:"architecture"`
	Layers       int                `json:"layers"`
	Hidden       int                `json:"hidden"`
	Intermediate int                `json:"intermediate"`
	Heads        int                `json:"heads"`
	KVHeads      int                `json:"kv_heads"`
	HeadDim      int                `json:"head_dim"`
	Vocab        int                `json:"vocab"`
	TiedHead     bool               `json:"tied_head"`
	QKVBias      bool               `json:"qkv_bias"`
	QKNorm       bool               `json:"qk_norm"`
	Experts      *model.MoE         `json:"experts,omitempty"`
	Context      int                `json:"context"`
	Rope         model.Rope         `json:"rope"`
	EOS          []int32            `json:"eos"`
	Parameters   int64              `json:"parameters"`
	WeightBytes  int64              `json:"weight_bytes"`
	StoredAs     []model.DType      `json:"stored_as"`

	Tokenizer *tokenizerDescription `json:"tokenizer"` // null: there is none
	Memory    memoryDescription     `json:"memory"`
	Check     *checkDescription     `json:"check,omitempty"`
}

type tokenizerDescription struct {
	Tokens       int    `json:"tokens"`
	Ordinary     int    `json:"ordinary"` // ids below the first special token
	ChatTemplate string `json:"chat_template"`
}

// memoryDescription says what fits this machine now.
type memoryDescription struct {
	Weights         string         `json:"weights"`             // as products would read them
	StepBytes       int64          `json:"weight_bytes_a_step"` // that they would read, of a mixture of experts all
	KV              string         `json:"kv"`
	KVBytesPerToken int            `json:"kv_bytes_per_token"`
	AvailableBytes  int64          `json:"available_bytes"`
	Problem         string         `json:"problem,omitempty"` // why the defaults do not fit
	LargestContext  int            `json:"largest_context"`
	LargestBatches  []largestBatch `json:"largest_batches"`
}

type largestBatch struct {
	Context   int `json:"context"`
	Sequences int `json:"sequences"`
}

type checkDescription struct {
	Bytes     int64             `json:"bytes"`
	NonFinite []model.NonFinite `json:"non_finite"`
}

func (a *App) inspect(f inspectFlags) error {
	ck, err := f.OpenModel(a.note)
	if err != nil {
		return err
	}
	defer ck.Close()
	d := describe(ck)
	if d.Tokenizer, err = describeTokenizer(ck); err != nil {
		return err
	}
	if d.Memory, err = describeMemory(f.EngineFlags, ck); err != nil {
		return err
	}
	if f.check {
		if d.Check, err = a.checkWeights(ck); err != nil {
			return err
		}
	}
	if f.asJSON {
		err = writeJSON(a.Stdout, d)
	} else {
		err = d.write(a.Stdout)
	}
	return errors.Join(d.Check.verdict(), err)
}

func describe(ck *model.Checkpoint) description {
	c := ck.Config
	d := description{
		Model: ck.Name, Synthetic: ck.Synthetic, Architecture: c.Architecture,
		Layers: c.Layers, Hidden: c.Hidden, Intermediate: c.Intermediate,
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Vocab: c.Vocab,
		TiedHead: c.TiedHead, QKVBias: c.QKVBias, QKNorm: c.QKNorm,
		Context: c.MaxPositions, Rope: c.Rope, EOS: c.EOS,
		Parameters: ck.Parameters(), WeightBytes: ck.WeightBytes(), StoredAs: storedAs(ck),
	}
	if c.MoE.Experts > 0 {
		d.Experts = &c.MoE
	}
	return d
}

// storedAs lists the types of the stored tensors, the most frequent kind of a checkpoint being the only one.
func storedAs(ck *model.Checkpoint) []model.DType {
	if ck.Synthetic {
		return []model.DType{model.BF16} // made up as they are asked for
	}
	seen := map[model.DType]bool{}
	types := []model.DType{}
	for _, name := range ck.Names() {
		if t, err := ck.Tensor(name); err == nil && !seen[t.DType] {
			seen[t.DType] = true
			types = append(types, t.DType)
		}
	}
	return types
}

// describeTokenizer is nil for a model without a tokenizer: token ids can still be fed to it.
func describeTokenizer(ck *model.Checkpoint) (*tokenizerDescription, error) {
	t, err := tokenizer.Load(ck.Files)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &tokenizerDescription{Tokens: t.Vocab(), Ordinary: t.OrdinaryVocab()}
	template, err := chat.Parse(t.ChatTemplate())
	switch {
	case err == nil:
		d.ChatTemplate = template.Name()
	case t.ChatTemplate() != "":
		d.ChatTemplate = "not usable: " + err.Error()
	}
	return d, nil
}

// describeMemory asks the engine what would fit at several lengths of context.
func describeMemory(f cli.EngineFlags, ck *model.Checkpoint) (memoryDescription, error) {
	options, err := f.OptionsFor(ck)
	if err != nil {
		return memoryDescription{}, err
	}
	device, err := kernels.Open(options.DeviceOptions)
	if err != nil {
		return memoryDescription{}, err
	}
	defer device.Close()
	info := device.Info()
	plan, err := engine.PlanMemory(ck, options, info)
	if err != nil && !errors.Is(err, engine.ErrNoMemory) {
		return memoryDescription{}, err
	}
	m := memoryDescription{
		Weights:         options.Weights.String(),
		StepBytes:       ck.Config.ProductBytes(options.Weights),
		KV:              options.KV.String(),
		KVBytesPerToken: plan.KVBytesPerToken,
		AvailableBytes:  plan.Available,
		LargestContext:  plan.LargestContext,
		LargestBatches:  []largestBatch{},
	}
	if err != nil {
		m.Problem = err.Error()
	}
	limit := ck.Config.MaxPositions
	for _, context := range []int{512, 4096, 32768, limit} {
		if context > limit || context == limit && len(m.LargestBatches) > 0 && m.LargestBatches[len(m.LargestBatches)-1].Context == limit {
			continue
		}
		options.MaxContext = context
		plan, err := engine.PlanMemory(ck, options, info)
		if err != nil && !errors.Is(err, engine.ErrNoMemory) {
			return m, err
		}
		m.LargestBatches = append(m.LargestBatches, largestBatch{context, plan.LargestBatch})
	}
	return m, nil
}

// checkWeights reads every weight.
func (a *App) checkWeights(ck *model.Checkpoint) (*checkDescription, error) {
	progress := cli.NewProgress(a.Stderr)
	defer progress.Clear()
	c := &checkDescription{}
	bad, err := ck.CheckFinite(func(done, total int64) {
		c.Bytes = done
		progress.Show("checking weights: %s of %s", cli.Bytes(done), cli.Bytes(total))
	})
	c.NonFinite = append([]model.NonFinite{}, bad...)
	return c, err
}

// verdict is an error if some weight is not finite.
func (c *checkDescription) verdict() error {
	if c == nil || len(c.NonFinite) == 0 {
		return nil
	}
	names := make([]string, 0, 3)
	for _, n := range c.NonFinite[:min(3, len(c.NonFinite))] {
		names = append(names, fmt.Sprintf("%q (%d NaN, %d infinite of %d)", n.Tensor, n.NaN, n.Inf, n.Values))
	}
	return &cli.Problem{
		Err:  fmt.Errorf("weights that are not finite in %d tensors: %s", len(c.NonFinite), strings.Join(names, ", ")),
		Hint: "the files are damaged or were written by a training run that had failed: download them again",
		Exit: cli.BadModel,
	}
}
