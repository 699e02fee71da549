package model

import (
	"fmt"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
)

// replays are the steps that a device has recorded: those of one row for each sequence, up to mostReplayed. Such a step is
// padded to the next of a few sizes, with rows that stand at position 0, see nothing and write to the null block. Its inputs
// lie side by side, so that one copy brings them to where the recording finds them.
type replays struct {
	most   int // rows; 0: this device does not replay
	packer attention.Packer
	blocks int // room for so many in the packer
	steps  map[replayKey]*recording
}

// replayKey is all that a recording depends on, beside the addresses of the model and its lists.
type replayKey struct {
	rows   int
	shared bool
	kv     *KV
}

// recording is a step of a size: the layers, and apart from them the head and the sampling of all rows.
type recording struct {
	replayKey
	room                             attention.Room
	tokens, index, params, positions kernels.Buffer
	slots                            kernels.Buffer
	work                             kernels.Work
	asks                             bool // the step in it has parameters for all rows

	forward, sample             kernels.Recording
	recordForward, recordSample func(kernels.Ops) error
}

const mostReplayed = 512

// replayRows is the size that a step of so many rows is padded to: within an eighth where there are many, where a row costs
// most, and never across the sizes at which kernels change.
func replayRows(rows, most int) int {
	step := 1
	switch {
	case rows > 128:
		step = 32
	case rows > 64:
		step = 16
	case rows > 16:
		step = 8
	case rows > 8:
		step = 4
	case rows > 4:
		step = 2
	}
	return min((rows+step-1)/step*step, most)
}

// packedBytes is the memory of a packer with room for so many blocks.
func (o LoadOptions) packedBytes(blocks int) int {
	rows := o.replayed()
	return attention.RoomFor(rows, true).Bytes(blocks) + rows*(4+4+sampleRowBytes) + 512
}

// replayed is the most rows of a step that is replayed.
func (o LoadOptions) replayed() int { return min(mostReplayed, o.MaxRows, o.MaxLogitRows) }

// open makes room for the lists of a device that replays.
func (r *replays) open(device *kernels.Device, o LoadOptions) error {
	r.most = o.replayed()
	r.steps = map[replayKey]*recording{}
	return r.reserveBytes(device, o.lists().Blocks, o.packedBytes(o.lists().Blocks))
}

// reserve makes room for so many blocks.
func (r *replays) reserve(device *kernels.Device, blocks int) error {
	if r.most == 0 || blocks <= r.blocks {
		return nil
	}
	blocks += blocks / 2
	return r.reserveBytes(device, blocks, r.packer.Memory.Bytes()+4*(blocks-r.blocks))
}

func (r *replays) reserveBytes(device *kernels.Device, blocks, bytes int) error {
	memory, err := device.Alloc(bytes)
	if err != nil {
		return fmt.Errorf("model: making room for steps of %d blocks: %w", blocks, err)
	}
	device.Free(r.packer.Memory)
	r.packer.Memory, r.packer.Host, r.blocks = memory, make([]byte, bytes), blocks
	return nil
}

func (r *replays) free(device *kernels.Device) {
	device.Free(r.packer.Memory)
	*r = replays{}
}

// recordingFor is the recording that a batch can be run by; nil if there is none.
func (m *Model) recordingFor(b *Batch, kv *KV) *recording {
	r := &m.replays
	if len(b.Tokens) > r.most || !b.Plan.Single() || b.Plan.Sizes().Blocks > r.blocks {
		return nil
	}
	key := replayKey{replayRows(len(b.Tokens), r.most), b.Plan.Shares(), kv}
	rec := r.steps[key]
	if rec == nil {
		rec = m.newRecording(key)
		r.steps[key] = rec
	}
	if !b.Plan.Fits(rec.room) {
		return nil
	}
	return rec
}

func (m *Model) newRecording(key replayKey) *recording {
	rec := &recording{replayKey: key, room: attention.RoomFor(key.rows, key.shared)}
	rec.forward.Name, rec.sample.Name = fmt.Sprintf("decode-%d", key.rows), fmt.Sprintf("sample-%d", key.rows)
	if key.shared {
		rec.forward.Name += "-shared"
	}
	rec.recordForward = func(ops kernels.Ops) error {
		s := &m.step
		s.ops, s.err = ops, nil
		s.rows, s.tokens, s.positions, s.slots, s.work = key.rows, rec.tokens, rec.positions, rec.slots, rec.work
		return m.layers(s, key.kv)
	}
	rec.recordSample = func(ops kernels.Ops) error {
		s := &m.step
		s.ops, s.err = ops, nil
		m.head(s, rec.index, key.rows)
		s.sample(kernels.SampleParams{
			Logits: m.act.logits, Params: rec.params, Out: m.act.sampled.Slice(0, key.rows*sampleOutBytes),
			Vocab: m.Config.Vocab, Rows: key.rows,
		})
		return s.err
	}
	return rec
}

// replay is Forward by a recording.
func (m *Model) replay(ops kernels.Ops, r kernels.Replayer, rec *recording, b *Batch) error {
	p, rows := &m.replays.packer, rec.rows
	m.index = m.index[:0]
	for row := range b.Tokens {
		m.index = append(m.index, int32(row))
	}
	p.Reset()
	rec.tokens = p.Place(kernels.AsBytes(b.Tokens), 4*rows)
	rec.index = p.Place(kernels.AsBytes(m.index), 4*rows)
	rec.params = p.Place(kernels.AsBytes(b.Asks), sampleRowBytes*rows)
	rec.positions, rec.slots, rec.work = b.Plan.Pack(p, rec.room, m.replays.blocks)
	rec.asks = len(b.Asks) > 0
	memory, host := p.Packed()
	if err := ops.Write(memory, host); err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	if err := r.Replay(&rec.forward, rec.recordForward); err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	m.computed.Add(int64(m.rows))
	m.replaying = rec
	return nil
}

// replayAsks is AskAll by the recording that Forward has used.
func (m *Model) replayAsks(ops kernels.Ops) error {
	rec := m.replaying
	if err := ops.(kernels.Replayer).Replay(&rec.sample, rec.recordSample); err != nil {
		return fmt.Errorf("model: sampling: %w", err)
	}
	m.asked = m.rows
	return nil
}

// ReplayErr is why steps are not replayed that could be; nil where all is well. It is called within Do.
func (m *Model) ReplayErr() error {
	if rec := m.replaying; rec != nil {
		if err := rec.forward.Err(); err != nil {
			return err
		}
		return rec.sample.Err()
	}
	return nil
}
