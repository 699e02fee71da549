package engine

import (
	"context"
	"fmt"
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
	asked  *questions              // of the step that is submitted
	doStep func(kernels.Ops) error // compute, as a value that is made once

	overlapping bool
	answers     kernels.Pending   // of the step that is submitted; nil: they are there
	flying      []kernels.Pending // of the steps that were submitted and not collected
	refused     error             // why the device does not replay some steps
	log         func(line string) // is told of it, once; nil: nobody is
}

func newModelRunner(device *kernels.Device, m *model.Model, kv *model.KV) *modelRunner {
	r := &modelRunner{device: device, model: m, kv: kv, logitRows: m.Options().MaxLogitRows, attention: attention.Ordinary}
	r.batch.Plan = &attention.Plan{}
	r.overlapping = device.Info().Kind == "cuda"
	r.doStep = r.compute
	return r
}

// attentionShape is a layer's, for the cost model.
func attentionShape(c model.Config, kv kernels.KVType, device string) attention.Shape {
	return attention.Shape{
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, TokenBytes: c.KVBytesPerToken(kv) / c.Layers, GPU: device == "cuda",
	}
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

func (r *modelRunner) overlaps() bool { return r.overlapping }

func (r *modelRunner) submit(q *questions) error {
	r.batch.Plan.Share(r.attention, r.shape)
	r.saved.Add(int64(r.batch.Plan.SavedReads()))
	if err := r.model.Reserve(&r.batch); err != nil {
		return err
	}
	r.batch.Asks = nil
	if q.plain(len(r.batch.Tokens)) {
		r.batch.Asks = q.params
	}
	r.asked, r.answers = q, nil
	refused := r.refused
	if err := r.device.Do(context.Background(), r.doStep); err != nil {
		return err
	}
	if refused == nil && r.refused != nil && r.log != nil {
		r.log(fmt.Sprintf("engine: steps are launched kernel by kernel, which takes longer: %v", r.refused))
	}
	r.flying = append(r.flying, r.answers)
	return nil
}

// collect waits without the device's goroutine, which other engines may want.
func (r *modelRunner) collect() error {
	answers := r.flying[0]
	r.flying = r.flying[:copy(r.flying, r.flying[1:])]
	if answers == nil {
		return nil
	}
	return answers.Wait()
}

// compute runs on the device's goroutine.
func (r *modelRunner) compute(ops kernels.Ops) error {
	if err := r.model.Forward(ops, &r.batch, r.kv); err != nil {
		return err
	}
	q := r.asked
	if len(r.batch.Asks) > 0 {
		if err := r.model.AskAll(ops, &r.batch); err != nil {
			return err
		}
	} else if err := r.ask(ops, q); err != nil {
		return err
	}
	var err error
	r.answers, err = r.model.Answers(ops, q.out)
	if r.refused == nil {
		r.refused = r.model.ReplayErr()
	}
	return err
}

// ask asks in as many turns as it takes.
func (r *modelRunner) ask(ops kernels.Ops, q *questions) error {
	for first := 0; first < len(q.rows); first += r.logitRows {
		end := min(first+r.logitRows, len(q.rows))
		if err := r.model.Logits(ops, q.rows[first:end]); err != nil {
			return err
		}
		tops := [2]int{first * q.topN, end * q.topN}
		err := r.model.Ask(ops, q.params[first:end], q.part(first, end), q.topN, q.topTokens[tops[0]:tops[1]], q.topLogits[tops[0]:tops[1]])
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
	return r.transfer(func(ops kernels.Ops) (kernels.Pending, error) { return r.kv.TransferOut(ops, int(b), dst) })
}

func (r *modelRunner) writeBlock(b kvcache.BlockID, src []byte) error {
	return r.transfer(func(ops kernels.Ops) (kernels.Pending, error) { return r.kv.TransferIn(ops, int(b), src) })
}

// transfer has the device's goroutine begin a copy, and waits for it without.
func (r *modelRunner) transfer(begin func(kernels.Ops) (kernels.Pending, error)) error {
	var copied kernels.Pending
	err := r.device.Do(context.Background(), func(ops kernels.Ops) (err error) {
		copied, err = begin(ops)
		return err
	})
	if err != nil || copied == nil {
		return err
	}
	return copied.Wait()
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
