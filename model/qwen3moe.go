package model

import "github.com/quire-llm/quire/kernels"

// The mixture of experts: Qwen3's decoder with another MLP in most layers.
//
//	p  = softmax(Router · rms(h)), the TopK largest, divided by their sum if NormTopK
//	h += sum over those experts e of p[e] · Down[e] · (silu(Gate[e]·rms(h)) ⊙ Up[e]·rms(h))

// expertMLP adds a layer's mixture of experts to the residual stream.
func (m *Model) expertMLP(s *step, l *Layer) {
	c := &m.Config
	s.moe(kernels.MoEParams{
		X: m.act.hidden, Norm: l.MLPNorm, Eps: c.NormEps,
		Router: l.Router, GateUp: l.ExpertGateUp, Down: l.ExpertDown,
		TopK: c.MoE.TopK, NormTopK: c.MoE.NormTopK,
		Out: m.act.hidden, Rows: s.rows,
	})
}
