package model

import (
	"fmt"

	"github.com/quire-llm/quire/kernels"
)

// Forward computes one step: it writes the rows' keys and values into the cache and leaves their last hidden states in
// the model, for Logits. What is wrong with the batch is found before anything runs. Nothing is allocated.
func (m *Model) Forward(ops kernels.Ops, b *Batch, kv *KV) error {
	if err := m.check(b, kv); err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	m.logits = 0
	work, err := b.Plan.Write(ops, m.lists)
	if err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	s := &m.step
	s.ops, s.err, s.rows = ops, nil, len(b.Tokens)
	s.positions, s.slots, s.work = m.lists.Positions, m.lists.Slots, work

	s.write(m.act.tokens, kernels.AsBytes(b.Tokens))
	s.embed(kernels.EmbedParams{Tokens: m.act.tokens, Table: m.Embedding, Out: m.act.hidden, Rows: s.rows})
	if s.err != nil {
		return fmt.Errorf("model: forward, embedding: %w", s.err)
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		m.selfAttention(s, l, kv.layers[i])
		if l.ExpertDown == nil {
			m.denseMLP(s, l)
		} else {
			m.expertMLP(s, l)
		}
		if s.err != nil {
			return fmt.Errorf("model: forward, layer %d: %w", i, s.err)
		}
	}
	m.computed.Add(int64(s.rows))
	return nil
}

// Logits computes the logits of the given rows of the last Forward, for Sample.
func (m *Model) Logits(ops kernels.Ops, rows []int32) error {
	m.logits = 0
	if len(rows) < 1 || len(rows) > m.options.MaxLogitRows {
		return fmt.Errorf("model: logits: got %d rows, want 1 to %d", len(rows), m.options.MaxLogitRows)
	}
	for _, r := range rows {
		if r < 0 || int(r) >= m.step.rows {
			return fmt.Errorf("model: logits: row %d, but the last step had %d", r, m.step.rows)
		}
	}
	s := &m.step
	s.ops, s.err = ops, nil
	s.write(m.act.index, kernels.AsBytes(rows))
	s.head(kernels.HeadParams{
		X: m.act.hidden, Index: m.act.index, Norm: m.Norm, Eps: m.Config.NormEps,
		W: m.Head, Logits: m.act.logits, Rows: len(rows),
	})
	if s.err != nil {
		return fmt.Errorf("model: logits: %w", s.err)
	}
	m.logits = len(rows)
	return nil
}

// Sample takes one token for each row of the last Logits and waits for the result. out is [rows]; topTokens and topLogits
// are [rows, topN], and topN is at most MaxTop. It may be called again with other parameters.
func (m *Model) Sample(ops kernels.Ops, params []kernels.SampleRow, topN int, out []kernels.SampleOut, topTokens []int32, topLogits []float32) error {
	return m.sample(ops, params, filterBuffers{}, topN, out, topTokens, topLogits)
}

func (m *Model) sample(ops kernels.Ops, params []kernels.SampleRow, filters filterBuffers, topN int, out []kernels.SampleOut, topTokens []int32, topLogits []float32) error {
	rows := m.logits
	switch {
	case len(params) != rows || len(out) != rows || rows == 0:
		return fmt.Errorf("model: sampling: got parameters for %d rows and room for %d, want %d, and at least one", len(params), len(out), rows)
	case topN < 0 || topN > MaxTop:
		return fmt.Errorf("model: sampling: got the %d largest logits, want 0 to %d", topN, MaxTop)
	case len(topTokens) != rows*topN || len(topLogits) != rows*topN:
		return fmt.Errorf("model: sampling: got room for %d and %d of the largest logits, want %d rows × %d", len(topTokens), len(topLogits), rows, topN)
	}
	for i, p := range params {
		if p.Want < -1 || int(p.Want) >= m.Config.Vocab {
			return fmt.Errorf("model: sampling: row %d wants token %d, but the vocabulary has %d", i, p.Want, m.Config.Vocab)
		}
	}
	s, a := &m.step, &m.act
	s.ops, s.err = ops, nil
	s.write(a.params, kernels.AsBytes(params))
	s.sample(kernels.SampleParams{
		Logits: a.logits, Params: a.params, Out: a.sampled,
		Filters: filters.rows, Biases: filters.biases, Counts: filters.counts,
		TopN: topN, TopTokens: a.topTokens, TopLogits: a.topLogits,
		Vocab: m.Config.Vocab, Rows: rows,
	})
	s.read(kernels.AsBytes(out), a.sampled)
	if topN > 0 {
		s.read(kernels.AsBytes(topTokens), a.topTokens)
		s.read(kernels.AsBytes(topLogits), a.topLogits)
	}
	if s.err != nil {
		return fmt.Errorf("model: sampling: %w", s.err)
	}
	return nil
}
