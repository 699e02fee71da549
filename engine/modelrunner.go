package engine

import (
	"context"
	"sync/atomic"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// modelRunner computes steps with a model on its device.
type modelRunner struct {
	device    *kernels.Device
	model     *model.Model
	kv        *model.KV
	logitRows int // most at once

	attention attention.Mode
	shape     attention.Shape
	saved     atomic.Int64 // attention.Plan.SavedReads of all steps

	batch  model.Batch
	asked  *questions              // of the step that runs
	doStep func(kernels.Ops) error // compute, as a value that is made once
}

func newModelRunner(device *kernels.Device, m *model.Model, kv *model.KV) *modelRunner {
	r := &modelRunner{device: device, model: m, kv: kv, logitRows: m.Options().MaxLogitRows, attention: attention.Ordinary}
	r.batch.Plan = &attention.Plan{}
	r.doStep = r.compute
	return r
}

// attentionShape is a layer's, for the cost model.
func attentionShape(c model.Config, kv kernels.KVType) attention.Shape {
	return attention.Shape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, TokenBytes: c.KVBytesPerToken(kv) / c.Layers}
}

func (r *modelRunner) begin() {
	r.batch.Tokens = r.batch.Tokens[:0]
	r.batch.Plan.Reset(r.kv.BlockTokens())
}

func (r *modelRunner) add(tokens []int32, view []kvcache.Segment) error {
	if err := r.batch.Plan.Add(view, len(tokens)); err != nil {
		return err
	}
	r.batch.Tokens = append(r.batch.Tokens, tokens...)
	return nil
}

func (r *modelRunner) overlaps() bool { return false }

func (r *modelRunner) collect() error { return nil }

func (r *modelRunner) submit(q *questions) error {
	r.batch.Plan.Share(r.attention, r.shape)
	r.saved.Add(int64(r.batch.Plan.SavedReads()))
	if err := r.model.Reserve(&r.batch); err != nil {
		return err
	}
	r.asked = q
	return r.device.Do(context.Background(), r.doStep)
}

// compute runs on the device's goroutine.
func (r *modelRunner) compute(ops kernels.Ops) error {
	if err := r.model.Forward(ops, &r.batch, r.kv); err != nil {
		return err
	}
	q := r.asked
	for first := 0; first < len(q.rows); first += r.logitRows {
		end := min(first+r.logitRows, len(q.rows))
		if err := r.model.Logits(ops, q.rows[first:end]); err != nil {
			return err
		}
		tops := [2]int{first * q.topN, end * q.topN}
		err := r.model.SampleFiltered(ops, q.params[first:end], q.part(first, end), q.topN, q.out[first:end],
			q.topTokens[tops[0]:tops[1]], q.topLogits[tops[0]:tops[1]])
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *modelRunner) copyBlock(from, to kvcache.BlockID) error {
	return r.device.Do(context.Background(), func(ops kernels.Ops) error {
		return r.kv.CopyBlock(ops, int(from), int(to))
	})
}

func (r *modelRunner) readBlock(b kvcache.BlockID, dst []byte) error {
	return r.device.Do(context.Background(), func(ops kernels.Ops) error { return r.kv.ReadBlock(ops, int(b), dst) })
}

func (r *modelRunner) writeBlock(b kvcache.BlockID, src []byte) error {
	return r.device.Do(context.Background(), func(ops kernels.Ops) error { return r.kv.WriteBlock(ops, int(b), src) })
}

func (r *modelRunner) computed() int64 { return r.model.TokensComputed() }

func (r *modelRunner) close() {
	if r.kv != nil {
		r.kv.Free()
	}
	if r.model != nil {
		r.model.Close()
	}
}
