package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/quire-llm/quire/kernels"
)

// KV is the memory of a key-value cache. Blocks follow one another; in a block, layers do; a layer of a block holds the keys
// of its tokens, then their values:
//
//	[block][layer][K|V][token][KV head][dimension]    on a GPU
//	[block][layer][K|V][KV head][token][dimension]    on the CPU, which reads one head at a time
//
// and behind them, where scales lie apart, [K|V][KV head][token] of those,
// so that a tile of keys is one run of memory, a block moves in one copy, and memory is taken as blocks are used: with the
// layers outermost each would leave part of a large page empty, 40 MB of a cache of 28 layers. Block 0 is the null block,
// which padding writes to.
type KV struct {
	device      *kernels.Device
	memory      kernels.Buffer
	layers      []kernels.KVLayout
	blocks      int // without the null block
	blockTokens int
	blockBytes  int // of one layer
}

// NewKV allocates the cache memory of a pool of blocks blocks; the null block comes on top.
func NewKV(device *kernels.Device, c Config, blocks, blockTokens int, t kernels.KVType) (*KV, error) {
	if !device.Info().TakesKV(t) {
		return nil, fmt.Errorf("model: making a cache: the device %q takes none of %v: %w", device.Info().Name, t, errors.ErrUnsupported)
	}
	if blocks < 1 || blockTokens < 1 {
		return nil, fmt.Errorf("model: making a cache: got %d blocks of %d tokens, want at least 1 of each", blocks, blockTokens)
	}
	row := t.HeadBytes(c.HeadDim) // one head's key or value of a token
	token := c.KVHeads * row
	scales := blockTokens * c.KVHeads * t.ScaleBytes() // of a block's keys in a layer
	kv := &KV{device: device, blocks: blocks, blockTokens: blockTokens, blockBytes: 2 * (blockTokens*token + scales)}
	stride := c.Layers * kv.blockBytes
	var err error
	if kv.memory, err = device.Alloc((blocks + 1) * stride); err != nil {
		return nil, fmt.Errorf("model: making a cache of %d blocks of %d tokens: %w", blocks, blockTokens, err)
	}
	tokenStride, headStride := token, row
	if device.Info().Kind == "cpu" {
		tokenStride, headStride = row, row*blockTokens
	}
	kv.layers = make([]kernels.KVLayout, c.Layers)
	for i := range kv.layers {
		kv.layers[i] = kernels.KVLayout{
			Base:        kv.memory.Slice(i*kv.blockBytes, kv.memory.Bytes()-i*kv.blockBytes),
			BlockStride: stride,
			VOffset:     blockTokens * token,
			TokenStride: tokenStride,
			HeadStride:  headStride,
			BlockTokens: blockTokens,
			Type:        t,

			ScaleOffset:  2 * blockTokens * token,
			VScaleOffset: scales,
		}
	}
	return kv, nil
}

// Blocks is the number of blocks, without the null block.
func (kv *KV) Blocks() int { return kv.blocks }

// BlockTokens is the number of tokens in a block.
func (kv *KV) BlockTokens() int { return kv.blockTokens }

// BlockBytes is the size of one block in all layers.
func (kv *KV) BlockBytes() int { return kv.blockBytes * len(kv.layers) }

// Bytes is the memory taken, the null block included.
func (kv *KV) Bytes() int { return kv.memory.Bytes() }

// Layer is where one layer's keys and values lie.
func (kv *KV) Layer(i int) kernels.KVLayout { return kv.layers[i] }

// CopyBlock copies block from to block to in all layers, in stream order.
func (kv *KV) CopyBlock(ops kernels.Ops, from, to int) error {
	if from < 1 || from > kv.blocks || to < 1 || to > kv.blocks || from == to {
		return fmt.Errorf("model: copying block %d to block %d: want two of blocks 1 to %d", from, to, kv.blocks)
	}
	stride := kv.BlockBytes()
	if err := ops.Copy(kv.memory.Slice(to*stride, stride), kv.memory.Slice(from*stride, stride)); err != nil {
		return fmt.Errorf("model: copying block %d to block %d: %w", from, to, err)
	}
	return nil
}

// ReadBlock copies block b, BlockBytes of it, into dst, and waits for that. What the bytes are depends on the device's kind.
func (kv *KV) ReadBlock(ops kernels.Ops, b int, dst []byte) error {
	memory, err := kv.block(b, len(dst))
	if err == nil {
		err = ops.Read(dst, memory)
	}
	if err != nil {
		return fmt.Errorf("model: reading block %d: %w", b, err)
	}
	return nil
}

// WriteBlock fills block b with what ReadBlock has read, in stream order. src may be used again when it returns.
func (kv *KV) WriteBlock(ops kernels.Ops, b int, src []byte) error {
	memory, err := kv.block(b, len(src))
	if err == nil {
		err = ops.Write(memory, src)
	}
	if err != nil {
		return fmt.Errorf("model: writing block %d: %w", b, err)
	}
	return nil
}

// TransferOut is ReadBlock beside the operations, where the device has that (see [kernels.Transferer]): dst is filled when what it
// returns has been waited for. Where it returns nil, dst is filled already.
func (kv *KV) TransferOut(ops kernels.Ops, b int, dst []byte) (kernels.Pending, error) {
	t, ok := ops.(kernels.Transferer)
	if !ok {
		return nil, kv.ReadBlock(ops, b, dst)
	}
	memory, err := kv.block(b, len(dst))
	if err != nil {
		return nil, fmt.Errorf("model: reading block %d: %w", b, err)
	}
	return t.TransferOut(dst, memory)
}

// TransferIn is WriteBlock in the same way: the block is filled, and src may be used again, when what it returns has been waited
// for.
func (kv *KV) TransferIn(ops kernels.Ops, b int, src []byte) (kernels.Pending, error) {
	t, ok := ops.(kernels.Transferer)
	if !ok {
		return nil, kv.WriteBlock(ops, b, src)
	}
	memory, err := kv.block(b, len(src))
	if err != nil {
		return nil, fmt.Errorf("model: writing block %d: %w", b, err)
	}
	return t.TransferIn(memory, src)
}

// block is a block's memory, of as many bytes as that must be.
func (kv *KV) block(b, bytes int) (kernels.Buffer, error) {
	stride := kv.BlockBytes()
	if b < 1 || b > kv.blocks || bytes != stride {
		return kernels.Buffer{}, fmt.Errorf("got %d bytes, want %d, and one of blocks 1 to %d", bytes, stride, kv.blocks)
	}
	return kv.memory.Slice(b*stride, stride), nil
}

// Clear sets all of the cache's memory to zero, which it is anyway before its first use; then it is all there.
func (kv *KV) Clear(ctx context.Context) error {
	zeros := make([]byte, kv.BlockBytes())
	return kv.device.Do(ctx, func(ops kernels.Ops) error {
		for at := 0; at < kv.memory.Bytes(); at += len(zeros) {
			if err := ops.Write(kv.memory.Slice(at, len(zeros)), zeros); err != nil {
				return fmt.Errorf("model: clearing the cache: %w", err)
			}
		}
		return nil
	})
}

// Free gives the memory back. Twice is fine.
func (kv *KV) Free() {
	kv.device.Free(kv.memory)
	kv.memory, kv.layers = kernels.Buffer{}, nil
}
