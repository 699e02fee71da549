package operations

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// rig is the memory that the operations of one model work on.
type rig struct {
	ctx        context.Context
	device     *kernels.Device
	settings   settings
	config     model.Config
	activation int // bytes

	buffers []kernels.Buffer // to be given back
	arena   kernels.Buffer   // of weights, random bfloat16
	x       kernels.Buffer   // [rows, Hidden] and more
	wide    kernels.Buffer   // [rows, the widest of what products give]
	narrow  kernels.Buffer   // [rows, Heads·HeadDim]
	norm    kernels.Buffer   // [Hidden] bfloat16 ones
	index   kernels.Buffer   // [mostHeads] int32
	logits  kernels.Buffer   // [mostHeads, Vocab] float32
	asked   kernels.Buffer   // [mostHeads] SampleRow
	answers kernels.Buffer   // [mostHeads] SampleOut
}

// configOf is a model's, of which nothing else is opened.
func configOf(name string) (model.Config, error) {
	flags := cli.EngineFlags{Model: name}
	if strings.HasPrefix(name, "qwen3-") {
		flags.Model = "synthetic:" + name
	}
	checkpoint, err := flags.OpenModel(func(string) {})
	if err != nil {
		return model.Config{}, err
	}
	defer checkpoint.Close()
	if c := checkpoint.Config; c.MoE.Experts > 0 {
		return c, cli.UsageError("take a model whose layers are dense", "%s is a mixture of experts", name)
	}
	return checkpoint.Config, nil
}

// newRig allocates and fills what the settings' rows need.
func newRig(ctx context.Context, device *kernels.Device, s settings, c model.Config) (*rig, error) {
	r := &rig{ctx: ctx, device: device, settings: s, config: c, activation: device.ActivationBytes()}
	rows := slices.Max(append(slices.Clone(s.Rows), 1))
	for _, text := range s.Contexts {
		n, _, _ := parseContext(text)
		rows = max(rows, n)
	}
	for _, text := range s.Prompts {
		n, tokens, _ := parseContext(text)
		rows = max(rows, n*tokens)
	}
	most := min(mostHeads, rows)
	wide := max(2*c.Intermediate*min(rows, slices.Max(append(slices.Clone(s.Rows), 1))), (c.Heads+2*c.KVHeads)*c.HeadDim*rows)
	largest := 2 * c.Hidden * max(3*c.Intermediate, (c.Heads+2*c.KVHeads)*c.HeadDim)
	if slices.Contains(s.Ops, "head") {
		largest = max(largest, 2*c.Hidden*c.Vocab)
	}
	logits := 4
	if slices.Contains(s.Ops, "head") || slices.Contains(s.Ops, "sample") {
		logits = 4 * most * c.Vocab
	}
	for _, b := range []struct {
		at    *kernels.Buffer
		bytes int
		fill  bool
	}{
		{&r.arena, max(s.RotateMiB<<20, largest), true}, {&r.x, r.activation * rows * c.Hidden, true}, {&r.wide, r.activation * wide, true},
		{&r.narrow, r.activation * rows * c.Heads * c.HeadDim, true}, {&r.norm, 2 * max(c.Hidden, c.HeadDim), false}, {&r.index, 4 * most, false},
		{&r.logits, logits, true}, {&r.asked, most * sizeOf[kernels.SampleRow](), false}, {&r.answers, most * sizeOf[kernels.SampleOut](), false},
	} {
		var err error
		if *b.at, err = r.alloc(b.bytes); err == nil && b.fill {
			err = r.fill(*b.at, r.activation == 4 && b.at != &r.arena || b.at == &r.logits)
		}
		if err != nil {
			r.close()
			return nil, err
		}
	}
	ones, index, asked := make([]uint16, r.norm.Bytes()/2), make([]int32, most), make([]kernels.SampleRow, most)
	for i := range ones {
		ones[i] = 0x3f80
	}
	for i := range index {
		index[i] = int32(i)
		asked[i] = kernels.SampleRow{Temperature: 0.6, Want: -1, Seed: uint64(i)}
	}
	err := device.Do(ctx, func(ops kernels.Ops) error {
		if err := ops.Write(r.norm, kernels.AsBytes(ones)); err != nil {
			return err
		}
		if err := ops.Write(r.index, kernels.AsBytes(index)); err != nil {
			return err
		}
		return ops.Write(r.asked, kernels.AsBytes(asked))
	})
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// sizeOf is the bytes of a T on the device.
func sizeOf[T any]() int { return len(kernels.AsBytes(make([]T, 1))) }

func (r *rig) alloc(bytes int) (kernels.Buffer, error) {
	b, err := r.device.Alloc(bytes)
	if err == nil {
		r.buffers = append(r.buffers, b)
	}
	return b, err
}

func (r *rig) close() {
	for _, b := range r.buffers {
		r.device.Free(b)
	}
}

// fillBytes is the size of the numbers that are made; more memory gets them again.
const fillBytes = 4 << 20

// numbers are normal with a deviation of 0.02, as weights are: what multipliers do with them takes the power that it takes in earnest.
// The lowest bit is clear, so that no byte is a NaN of float8.
func numbers(float32s bool) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	if float32s {
		list := make([]float32, fillBytes/4)
		for i := range list {
			list[i] = float32(0.02 * random.NormFloat64())
		}
		return kernels.AsBytes(list)
	}
	list := make([]uint16, fillBytes/2)
	for i := range list {
		list[i] = uint16(math.Float32bits(float32(0.02*random.NormFloat64()))>>16) &^ 1
	}
	return kernels.AsBytes(list)
}

// fill writes numbers all over a buffer.
func (r *rig) fill(b kernels.Buffer, float32s bool) error {
	piece := numbers(float32s)
	return r.device.Do(r.ctx, func(ops kernels.Ops) error {
		first := min(len(piece), b.Bytes())
		if err := ops.Write(b.Slice(0, first), piece[:first]); err != nil {
			return err
		}
		for at := first; at < b.Bytes(); {
			n := min(at, b.Bytes()-at) // what is there already, once more
			if err := ops.Copy(b.Slice(at, n), b.Slice(0, n)); err != nil {
				return err
			}
			at += n
		}
		return nil
	})
}

// copiesOf is how many matrices of a size lie in the arena.
func (r *rig) copiesOf(bytes int) int { return max(1, r.arena.Bytes()/(bytes+weightAlign)) }

const weightAlign = 256

// weight is the i-th matrix of a size in the arena.
func (r *rig) weight(i, cols int, parts ...int) kernels.Weight {
	w := kernels.Weight{Format: kernels.BF16, Cols: cols, Parts: make([]kernels.Part, 0, len(parts))}
	rows := 0
	for _, n := range parts {
		rows += n
	}
	at := i * ((2*cols*rows + weightAlign - 1) / weightAlign * weightAlign)
	for _, n := range parts {
		w.Parts = append(w.Parts, kernels.Part{Rows: n, Data: r.arena.Slice(at, 2*n*cols)})
		at += 2 * n * cols
	}
	w.Rows = rows
	return w
}

// cache is keys and values for one plan.
type cache struct {
	kv         kernels.KVType
	tokenBytes int // of a layer
	memory     *model.KV
	layers     []kernels.KVLayout
	lists      *attention.Buffers
	work       kernels.Work
	rope       kernels.Buffer
}

// newCache makes a cache as engines have it, with as many of the model's layers as there is memory for; on a CPU only so many
// that its caches do not hold them. All blocks have the same content.
func (r *rig) newCache(kv kernels.KVType, sequences, tokens, rows int) (k *cache, err error) {
	c, bt := r.config, r.settings.BlockTokens
	blocks := sequences * ((tokens + bt - 1) / bt)
	k = &cache{kv: kv, tokenBytes: 2 * c.KVHeads * kv.RowBytes(c.HeadDim)}
	layer := int64(blocks+1) * int64(bt*k.tokenBytes)
	info := r.device.Info()
	fit := int64(c.Layers)
	if info.AvailableBytes > 0 {
		fit = min(fit, info.AvailableBytes*8/10/layer)
	}
	if info.Kind == "cpu" {
		fit = min(fit, int64(r.settings.RotateMiB)<<20/layer+1)
	}
	if c.Layers = int(fit); fit < 1 {
		return nil, fmt.Errorf("a layer of %d sequences of %d tokens takes %d bytes: %w", sequences, tokens, layer, kernels.ErrNoMemory)
	}
	defer func() {
		if err != nil {
			k.close(r)
		}
	}()
	if k.memory, err = model.NewKV(r.device, c, blocks, bt, kv); err != nil {
		return k, err
	}
	for i := range c.Layers {
		k.layers = append(k.layers, k.memory.Layer(i))
	}
	plan, err := planOf(sequences, tokens, rows, bt)
	if err != nil {
		return k, err
	}
	if k.lists, err = attention.NewBuffers(r.device, plan.Sizes()); err != nil {
		return k, err
	}
	if k.rope, err = r.device.Alloc(4 * tokens * c.HeadDim); err != nil {
		return k, err
	}
	if err = r.fill(k.rope, true); err != nil {
		return k, err
	}
	content := slices.Repeat(numbers(kv == kernels.KVF32), k.memory.BlockBytes()/fillBytes+1)[:k.memory.BlockBytes()]
	err = r.device.Do(r.ctx, func(ops kernels.Ops) (err error) {
		if k.work, err = plan.Write(ops, k.lists); err != nil {
			return err
		}
		if err := k.memory.WriteBlock(ops, 1, content); err != nil {
			return err
		}
		for b := 2; b <= blocks; b++ {
			if err := k.memory.CopyBlock(ops, 1, b); err != nil {
				return err
			}
		}
		return nil
	})
	return k, err
}

func (k *cache) close(r *rig) {
	if k.memory != nil {
		k.memory.Free()
	}
	if k.lists != nil {
		k.lists.Free()
	}
	r.device.Free(k.rope)
}

// scattered is the blocks from 1 to n in an order without order, always the same.
func scattered(n int) []kvcache.BlockID {
	blocks := make([]kvcache.BlockID, n)
	for i, p := range rand.New(rand.NewPCG(3, 4)).Perm(n) {
		blocks[i] = kvcache.BlockID(1 + p)
	}
	return blocks
}

// shapeRun is the measuring of one model's shapes.
type shapeRun struct {
	*rig
	name     string
	machine  machine
	limits   limits
	text     io.Writer
	progress *cli.Progress
	rows     []row
}

// measureShape measures all jobs of a model. What it returns with an error was measured before.
func measureShape(ctx context.Context, device *kernels.Device, s settings, name string, m machine, text io.Writer, progress *cli.Progress) ([]row, error) {
	config, err := configOf(name)
	if err != nil {
		return nil, err
	}
	probe, err := kernels.NewProbe(device, kernels.ProbeOptions{ReadBytes: s.ProbeMiB << 20, LoopTime: time.Duration(s.ProbeMillis) * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	before, err := probe.Measure(ctx)
	if err != nil {
		return nil, err
	}
	r, err := newRig(ctx, device, s, config)
	if err != nil {
		return nil, err
	}
	defer r.close()
	run := &shapeRun{rig: r, name: name, machine: m, limits: limitsOf(before, before, m.Products), text: text, progress: progress}
	progress.Clear()
	printHeading(text, name, run.limits)
	failed := run.all()
	after, err := probe.Measure(ctx)
	if err != nil {
		after = before
	}
	better := limitsOf(before, after, m.Products)
	for i := range run.rows { // the table on the console stands; the file has the better limits
		w := &run.rows[i]
		w.setShares(&job{bytes: w.Bytes, operations: w.Operations}, better)
	}
	if failed == nil {
		failed = err
	}
	return run.rows, failed
}

// all measures what the settings ask for, in the order of opNames.
func (m *shapeRun) all() error {
	for _, op := range opNames() {
		if !slices.Contains(m.settings.Ops, op) {
			continue
		}
		var err error
		switch op {
		case "rope":
			err = m.rotations()
		case "decode":
			err = m.attention(op, m.settings.Contexts, false)
		case "prefill":
			err = m.attention(op, m.settings.Prompts, true)
		default:
			for _, rows := range m.settings.Rows {
				if rows > mostHeads && (op == "head" || op == "sample") {
					continue
				}
				if err = m.measure(m.products(op, rows)); err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rotations measures the rotation for batches of rows that are each the next token of a sequence.
func (m *shapeRun) rotations() error {
	for _, rows := range m.settings.Rows {
		k, err := m.newCache(kernels.KVBF16, rows, m.settings.BlockTokens, 1)
		if err != nil {
			return err
		}
		err = m.measure(m.rotation(rows, k))
		k.close(m.rig)
		if err != nil {
			return err
		}
	}
	return nil
}

// attention measures sequences with one row each, or all of their tokens.
func (m *shapeRun) attention(op string, contexts []string, whole bool) error {
	for _, name := range m.settings.KV {
		kv, err := cli.ParseKV(name)
		if err != nil {
			return err
		}
		if !m.device.Info().TakesKV(kv) {
			continue
		}
		for _, text := range contexts {
			sequences, tokens, err := parseContext(text)
			if err != nil {
				return err
			}
			rows := 1
			if whole {
				rows = tokens
			}
			k, err := m.newCache(kv, sequences, tokens, rows)
			if err != nil {
				return err
			}
			err = m.measure(m.attend(op, sequences, tokens, rows, k))
			k.close(m.rig)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A run has at least so many calls, and at most.
const (
	leastCalls = 2
	mostCalls  = 128
)

// measure times a job. A run is as many calls as would take the settings' time at the machine's limit.
func (m *shapeRun) measure(j *job) error {
	limit, _ := m.limits.seconds(j)
	calls := min(max(int(m.settings.RunMillis/1e3/limit), leastCalls), mostCalls)
	m.progress.Show("%s, %s, %d rows", m.name, j.op, j.rows)
	took, err := m.device.Time(m.ctx, m.settings.Runs, func(ops kernels.Ops) error {
		for i := range calls {
			if err := j.call(ops, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s, %d rows: %w", j.op, j.rows, err)
	}
	r := row{Shape: m.name, Op: j.op, Rows: j.rows, Sequences: j.sequences, Context: j.context, KV: j.kv, Copies: j.copies, Settings: m.settings, machine: m.machine}
	r.setTimes(took, calls)
	r.setShares(j, m.limits)
	m.rows = append(m.rows, r)
	m.progress.Clear()
	printRow(m.text, r)
	return nil
}
