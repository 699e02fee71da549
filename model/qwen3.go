package model

import (
	"math"

	"github.com/quire-llm/quire/kernels"
)

// The dense decoder. Qwen3, Qwen2 and Llama are one: Qwen3 normalizes each query and key head (QKNorm), Qwen2 adds a bias
// to query, key and value (QKVBias), Llama does neither.
//
//	h  = embed(token)
//	h += Proj · attention(rope(norm(Q·rms(h))), rope(norm(K·rms(h))), V·rms(h))     in every layer
//	h += Down · (silu(Gate·rms(h)) ⊙ Up·rms(h))
//	logits = Head · rms(h)
//
// Qwen3: https://arxiv.org/abs/2505.09388. Llama 3: https://arxiv.org/abs/2407.21783.

// selfAttention adds a layer's attention to the residual stream and leaves the rows' keys and values in the cache.
func (m *Model) selfAttention(s *step, l *Layer, kv kernels.KVLayout) {
	c, a := &m.Config, &m.act
	s.normQKV(kernels.NormQKVParams{
		X: a.hidden, Norm: l.AttentionNorm, Eps: c.NormEps,
		W: l.QKV, Out: a.qkv, Rows: s.rows,
	})
	s.qkNormRopeWrite(kernels.QKNormRopeWriteParams{
		QKV: a.qkv, QNorm: l.QNorm, KNorm: l.KNorm, Eps: c.NormEps,
		Rope: m.Rope, Positions: s.positions, Slots: s.slots, KV: kv,
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Rows: s.rows,
	})
	s.attend(kernels.AttendParams{
		Q: a.qkv, QStride: (c.Heads + 2*c.KVHeads) * c.HeadDim, Out: a.attended,
		Positions: s.positions, Rope: m.Rope, KV: kv, Work: s.work,
		Scale: float32(1 / math.Sqrt(float64(c.HeadDim))),
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Rows: s.rows,
	})
	s.projAdd(kernels.ProjAddParams{X: a.attended, W: l.Proj, Out: a.hidden, Rows: s.rows})
}

// denseMLP adds a layer's gated MLP to the residual stream.
func (m *Model) denseMLP(s *step, l *Layer) {
	a := &m.act
	if ops, whole := s.ops.(kernels.MLPOps); whole {
		s.mlp(ops, kernels.MLPParams{
			X: a.hidden, Norm: l.MLPNorm, Eps: m.Config.NormEps,
			GateUp: l.GateUp, Down: l.Down, Out: a.hidden, Rows: s.rows,
		})
		return
	}
	s.normGateUp(kernels.NormGateUpParams{
		X: a.hidden, Norm: l.MLPNorm, Eps: m.Config.NormEps,
		W: l.GateUp, Out: a.gateUp, Rows: s.rows,
	})
	s.siluDownAdd(kernels.SiluDownAddParams{GateUp: a.gateUp, W: l.Down, Out: a.hidden, Rows: s.rows})
}
