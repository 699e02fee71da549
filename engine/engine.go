package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tokenizer"
)

// Engine runs one model. Its methods may be called from any goroutine.
type Engine struct {
	core   *core
	intake *intake
	info   Info
	text   *tokenizer.Tokenizer
	runner *modelRunner
	opened time.Time

	ownDevice     *kernels.Device   // nil: the caller's
	ownCheckpoint *model.Checkpoint // nil: the caller's
	closeOnce     sync.Once
	closeErr      error
}

// Open opens a model and starts its engine. Memory is planned before a weight is read: what does not fit is an error that
// matches ErrNoMemory and says what would. ctx counts until Open returns.
func Open(ctx context.Context, o Options) (*Engine, error) {
	o, err := o.settle()
	if err != nil {
		return nil, err
	}
	e := &Engine{opened: time.Now()}
	if err := e.open(ctx, o); err != nil {
		e.release()
		return nil, err
	}
	e.core.start()
	return e, nil
}

func (e *Engine) open(ctx context.Context, o Options) error {
	ck, err := e.openCheckpoint(o)
	if err != nil {
		return err
	}
	device, err := e.openDevice(o)
	if err != nil {
		return err
	}
	info := device.Info()
	o = o.settleDevice(info)
	o.Log(deviceLine(info))
	plan, err := PlanMemory(ck, o, info)
	if err != nil {
		return err
	}
	logPlan(o, plan, ck.Config)
	if e.text, err = loadTokenizer(ck); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("engine: opening %q: %w", ck.Name, err)
	}
	m, err := model.Load(device, ck, o.load(plan.Context))
	if err != nil {
		return memoryError(err)
	}
	e.runner = newModelRunner(device, m, nil)
	if e.runner.kv, err = model.NewKV(device, ck.Config, plan.Blocks, o.BlockTokens, o.KV); err != nil {
		return memoryError(err)
	}
	if o.TouchCache {
		if err := e.runner.kv.Clear(ctx); err != nil {
			return fmt.Errorf("engine: opening %q: %w", ck.Name, err)
		}
	}
	e.runner.log = o.Log
	if device.SharesAttention(o.KV, ck.Config.HeadDim) {
		e.runner.attention, e.runner.shape = o.Attention, attentionShape(ck.Config, o.KV, info.Kind)
	}
	s, err := openScheduler(o, plan, ck, info, e.runner)
	if err != nil {
		return err
	}
	e.core = newCore(s, o.QueueRequests)
	e.core.openTier(device, e.runner.kv.BlockBytes(), o.Log)
	e.core.observer, e.core.check = o.Observer, o.CheckInvariants || invariants
	e.intake = &intake{
		text:    newCodec(e.text),
		vocab:   ck.Config.Vocab,
		context: plan.Context,
		eos:     endTokens(ck),
	}
	e.info = Info{
		Model:      ck.Name,
		Path:       ck.Path,
		Synthetic:  ck.Synthetic,
		Config:     ck.Config,
		Generation: ck.Generation,
		Parameters: ck.Parameters(),
		Device:     info,
		Strategy:   o.Cache.Name(),
		Weights:    o.Weights,
		KV:         o.KV,
		Memory:     plan,
	}
	return ctx.Err()
}

func (e *Engine) openCheckpoint(o Options) (*model.Checkpoint, error) {
	if o.Checkpoint != nil {
		return o.Checkpoint, nil
	}
	ck, err := model.Open(o.Model, model.ResolveOptions{Providers: o.Providers, Log: o.Log})
	e.ownCheckpoint = ck
	return ck, err
}

func (e *Engine) openDevice(o Options) (*kernels.Device, error) {
	if o.Device != nil {
		return o.Device, nil
	}
	device, err := kernels.Open(o.DeviceOptions)
	e.ownDevice = device
	return device, err
}

// memoryError lets ErrNoMemory match where an allocation has failed in spite of the plan.
func memoryError(err error) error {
	if errors.Is(err, kernels.ErrNoMemory) {
		return fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	return err
}

// openScheduler makes the scheduler, its pool and the strategy's manager.
func openScheduler(o Options, plan MemoryPlan, ck *model.Checkpoint, info kernels.Info, r runner) (*scheduler, error) {
	pool, err := kvcache.NewPool(plan.Blocks, o.BlockTokens)
	if err != nil {
		return nil, err
	}
	manager, err := o.Cache.NewManager(pool, kvcache.Geometry{
		BlockTokens:   o.BlockTokens,
		BytesPerToken: plan.KVBytesPerToken,
		MaxTokens:     plan.Context,
		Identity:      identity(ck, o, info.Kind),
		AnyPosition:   true, // of every rope type that config.json may name
	})
	if err != nil {
		return nil, err
	}
	l := limits{sequences: o.MaxSequences, stepTokens: o.StepTokens, blockTokens: o.BlockTokens}
	return newScheduler(l, o.Cache.Name(), manager, pool, r), nil
}

// identity names everything that keys and values, and their places in a block, depend on besides the tokens.
func identity(ck *model.Checkpoint, o Options, device string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%x %s %s %s %v %+v", ck.Revision, device, o.Weights, o.KV, o.DeviceOptions.Float32, ck.Config))
}

// endTokens are the model's end-of-sequence tokens, wherever its files name them.
func endTokens(ck *model.Checkpoint) []int32 {
	ends := slices.Concat(ck.Config.EOS, ck.Generation.EOS)
	slices.Sort(ends)
	return slices.Compact(ends)
}

// Close ends all requests with ErrClosed, waits for the engine's goroutines and gives back what Open took. It returns the
// error that had ended the engine before, if one had. Closing twice is fine.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.closeErr = e.core.close()
		e.release()
	})
	return e.closeErr
}

// release gives back what open has taken so far.
func (e *Engine) release() {
	if e.core != nil {
		e.closeErr = errors.Join(e.closeErr, e.core.closeTier())
	}
	if e.runner != nil {
		e.runner.close()
	}
	if e.ownDevice != nil {
		e.closeErr = errors.Join(e.closeErr, e.ownDevice.Close())
	}
	if e.ownCheckpoint != nil {
		e.closeErr = errors.Join(e.closeErr, e.ownCheckpoint.Close())
	}
}
