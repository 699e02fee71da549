//go:build linux && cgo && (amd64 || arm64)

package kernels

import "github.com/quire-llm/quire/kernels/cuda"

// gpuKV demands a layout whose accesses are aligned and where the heads of a token lie together.
func (c *checker) gpuKV(l *KVLayout, headDim int) {
	align := 16 // of an asynchronous copy
	if l.Type == KVFP8 {
		align = 4
	}
	if c.err == nil && l.headStride(headDim) != l.Type.HeadBytes(headDim) {
		c.failf("KV.HeadStride is %d bytes, want %d", l.headStride(headDim), l.Type.HeadBytes(headDim))
	}
	if c.err == nil && (l.BlockStride|l.TokenStride|l.VOffset|int(address(l.Base)))%align != 0 {
		c.failf("KV strides are %d, %d and %d bytes, want multiples of %d", l.BlockStride, l.TokenStride, l.VOffset, align)
	}
}

// cacheOf is a layout as the kernels read it.
func cacheOf(l *KVLayout) cuda.KVCache {
	return cuda.KVCache{
		Base: address(l.Base), BlockStride: int64(l.BlockStride), VOffset: int64(l.VOffset), TokenStride: int64(l.TokenStride),
		ScaleOffset: int64(l.ScaleOffset), VScaleOffset: int64(l.VScaleOffset),
		BlockTokens: int32(l.BlockTokens), Type: gpuKVTypes[l.Type],
	}
}

// wide says whether the tensor-core decode kernels take a layout: groups of 16 tokens lie in one block, and accesses of 16
// bytes are aligned.
func wide(l *KVLayout) bool {
	return l.BlockTokens%16 == 0 && (l.BlockStride|l.TokenStride|l.VOffset|int(address(l.Base)))%16 == 0
}

// gpuKVTypes are the types as the kernels know them.
var gpuKVTypes = [...]int32{KVBF16: cuda.KVBF16, KVF32: cuda.KVF32, KVI8: -1, KVFP8: cuda.KVFP8}

func (g *gpu) QKNormRopeWrite(p *QKNormRopeWriteParams) error {
	ck := g.check("QKNormRopeWrite")
	ck.rotate(p)
	ck.aligned("QKV", p.QKV, 4)
	ck.aligned("Rope", p.Rope, 8)
	ck.gpuKV(&p.KV, p.HeadDim)
	if ck.err != nil || p.Rows == 0 {
		return ck.err
	}
	k := cuda.QKNormRopeWriteParams{
		QKV: address(p.QKV), QNorm: address(p.QNorm), KNorm: address(p.KNorm), Rope: address(p.Rope),
		Positions: address(p.Positions), Slots: address(p.Slots), KV: cacheOf(&p.KV),
		Rows: int32(p.Rows), Heads: int32(p.Heads), KVHeads: int32(p.KVHeads), HeadDim: int32(p.HeadDim), Eps: p.Eps,
	}
	return launch(g, k.Geometry(), &k)
}

// attention remembers what was planned last. All layers of a step have the same work list: the first one's Attend plans
// for all, until something is written to the lists.
type attention struct {
	planned bool
	key     attentionKey
	frees   uint64 // gpuMemory.frees when it was planned
	plan    cuda.AttendPlanParams
	kernels cuda.AttendKernels
}

// attentionKey is all that a plan depends on but for the contents of the lists.
type attentionKey struct {
	work                          Work
	positions                     Buffer
	rows, heads, kvHeads, headDim int
	kv                            KVType
	wide                          bool
}

// overwritten forgets the plan if it depends on what is written to.
func (a *attention) overwritten(b Buffer) {
	w := &a.key.work
	if a.planned && (overlap(b, w.Items) || overlap(b, w.Segments) || overlap(b, w.Shared) || overlap(b, w.SharedRows) || overlap(b, w.Counts) || overlap(b, a.key.positions)) {
		a.planned = false
	}
}

// overlap says whether two buffers have a byte in common.
func overlap(a, b Buffer) bool {
	from, to := address(a), address(b)
	return from < to+uint64(b.size) && to < from+uint64(a.size)
}

// partsBytes bounds the memory of partial results: where it is full, long walks of few rows are not cut.
const partsBytes = 64 << 20

func (g *gpu) Attend(p *AttendParams) error {
	ck := g.check("Attend")
	ck.attend(p)
	ck.aligned("Q", p.Q, 2)
	ck.aligned("Out", p.Out, 4)
	ck.gpuKV(&p.KV, p.HeadDim)
	if ck.err == nil && p.Work.SharedCount > 0 && (g.simpleAttention || !g.shares(p.KV.Type, p.HeadDim)) {
		ck.failf("Work.SharedCount is %d, but no kernel shares over %v and heads of %d", p.Work.SharedCount, p.KV.Type, p.HeadDim)
	}
	if ck.err != nil || p.Rows == 0 || p.Work.ItemCount == 0 {
		return ck.err
	}
	k := cuda.AttendParams{
		Q: address(p.Q), Out: address(p.Out), Positions: address(p.Positions), Rope: address(p.Rope), KV: cacheOf(&p.KV),
		HeadStride: int64(p.KV.Type.HeadBytes(p.HeadDim)), Segments: address(p.Work.Segments), Blocks: address(p.Work.Blocks),
		Items: address(p.Work.Items), QStride: int64(p.QStride), Heads: int32(p.Heads), KVHeads: int32(p.KVHeads),
		HeadDim: int32(p.HeadDim), ItemsMost: int32(p.Work.ItemCount), ItemCount: address(p.Work.Counts), Scale: p.Scale,
	}
	if g.simpleAttention {
		return launch(g, cuda.AttendGeometry(cuda.AttendSimpleBF16, p.Work.ItemCount), &k)
	}
	part := p.Heads * (p.HeadDim + 2) * 4 // bytes
	parts := min(cuda.AttendParts(p.Rows), partsBytes/part)
	shares := p.Work.SharedCount > 0
	if shares {
		parts = max(parts, p.Work.SharedRowCount+p.Rows) // what is shared must have room
	}
	r := rooms{gpu: g}
	k.PartValues = r.get(roomPartValues, parts*p.Heads*p.HeadDim*4)
	k.PartWeights = r.get(roomPartWeights, parts*p.Heads*2*4)
	k.PartList = r.get(roomPartList, parts*4)
	k.Counts = r.get(roomCounts, sizeOf[cuda.AttendCounts]())
	k.DecodeTiles = r.get(roomDecodeTiles, (p.Rows+parts)*sizeOf[cuda.AttendTile]())
	k.PrefillTiles = r.get(roomPrefillTiles, (p.Rows+parts)*sizeOf[cuda.AttendTile]())
	k.Merges = r.get(roomMerges, p.Rows*sizeOf[cuda.AttendMerge]())
	if shares {
		k.SharedRows = address(p.Work.SharedRows)
		k.RowParts, k.RowFirst = r.get(roomRowParts, 4*p.Rows), r.get(roomRowFirst, 4*p.Rows)
		k.SharedList = r.get(roomSharedList, 4*parts)
	}
	if r.err != nil {
		return r.err
	}
	a := &g.attention
	if err := g.planAttention(p, &k, parts); err != nil {
		return err
	}
	if a.merges(p) {
		k.Done = a.plan.Done
	}
	if err := launch(g, cuda.AttendGeometry(a.kernels.Decode, g.functions[a.kernels.Decode].blocks), &k); err != nil {
		return err
	}
	if !a.kernels.OnlyDecode && (shares || !p.Work.Single || p.Heads/p.KVHeads > a.kernels.DecodeQueries) {
		if err := launch(g, cuda.AttendGeometry(a.kernels.Prefill, g.functions[a.kernels.Prefill].blocks), &k); err != nil {
			return err
		}
	}
	if parts == 0 || k.Done != 0 {
		return nil
	}
	return launch(g, cuda.AttendGeometry(cuda.AttendMergeBF16, g.functions[cuda.AttendMergeBF16].blocks), &k)
}

// shares says whether there is a kernel that takes shared items. It may be called from any goroutine.
func (g *gpu) shares(kv KVType, headDim int) bool {
	if kv != KVBF16 && kv != KVFP8 || headDim > cuda.MaxHeadDim {
		return false
	}
	k := cuda.ChooseAttend(1, headDim, gpuKVTypes[kv], false)
	return !k.OnlyDecode && g.functions[k.Prefill].err == nil
}

// merges says whether the decode kernel adds up the parts of rows, all of which are its own.
func (a *attention) merges(p *AttendParams) bool {
	return a.kernels.Merges && p.Work.Single && p.Work.SharedCount == 0 && p.Heads/p.KVHeads <= a.kernels.DecodeQueries
}

// planAttention makes the tiles of the work list, unless the layer before has.
func (g *gpu) planAttention(p *AttendParams, k *cuda.AttendParams, parts int) error {
	a, frees := &g.attention, g.memory.frees.Load()
	key := attentionKey{p.Work, p.Positions, p.Rows, p.Heads, p.KVHeads, p.HeadDim, p.KV.Type, wide(&p.KV)}
	if a.planned && a.key == key && a.frees == frees {
		return nil
	}
	a.planned = false
	group := p.Heads / p.KVHeads
	a.kernels = cuda.ChooseAttend(group, p.HeadDim, gpuKVTypes[p.KV.Type], key.wide)
	if g.functions[a.kernels.Decode].err != nil {
		a.kernels = cuda.ChooseAttend(group, p.HeadDim, gpuKVTypes[p.KV.Type], false)
	}
	if g.functions[a.kernels.Prefill].err != nil {
		a.kernels.OnlyDecode = true
	}
	a.plan = cuda.AttendPlanParams{
		Items: k.Items, Segments: k.Segments, Positions: k.Positions, Counts: k.Counts,
		DecodeTiles: k.DecodeTiles, PrefillTiles: k.PrefillTiles, Merges: k.Merges, PartList: k.PartList,
		ItemsMost: k.ItemsMost, ItemCount: k.ItemCount, PartsMost: int32(parts), Group: int32(group), DecodeQueries: int32(a.kernels.DecodeQueries),
	}
	if a.kernels.OnlyDecode {
		a.plan.OnlyDecode = 1
	}
	if p.Work.SharedCount > 0 {
		a.plan.Shared, a.plan.SharedRows = address(p.Work.Shared), k.SharedRows
		a.plan.RowParts, a.plan.RowFirst, a.plan.SharedList = k.RowParts, k.RowFirst, k.SharedList
		a.plan.SharedMost, a.plan.Rows = int32(p.Work.SharedCount), int32(p.Rows)
		a.plan.SharedTiles = int32(g.functions[a.kernels.Prefill].blocks / p.KVHeads)
	}
	if a.merges(p) {
		done := p.Rows * p.KVHeads
		at, err := g.room(roomDone, 4*done)
		if err != nil {
			return err
		}
		a.plan.Done, a.plan.DoneMost = at, int32(done)
	}
	a.plan.DecodeTilesBusy = int32(g.functions[a.kernels.Decode].blocks / p.KVHeads)
	a.plan.Split()
	if err := launch(g, a.plan.Geometry(), &a.plan); err != nil {
		return err
	}
	a.planned, a.key, a.frees = true, key, frees
	return nil
}
