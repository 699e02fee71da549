package model

import (
	"fmt"

	"github.com/quire-llm/quire/kernels"
)

// Forward computes one step: it writes the rows' keys and values into the cache and leaves their last hidden states in
// the model, for Logits. What is wrong with the batch is found before anything runs. Where the device can replay, a step of
// one row for each sequence is recorded the first time and replayed from then on; see replay. Nothing is allocated, but for
// a recording.
func (m *Model) Forward(ops kernels.Ops, b *Batch, kv *KV) error {
	if err := m.check(b, kv); err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	m.rows, m.logits, m.asked, m.replaying = len(b.Tokens), 0, 0, nil
	if r, ok := ops.(kernels.Replayer); ok {
		if rec := m.recordingFor(b, kv); rec != nil {
			return m.replay(ops, r, rec, b)
		}
	}
	work, err := b.Plan.Write(ops, m.lists)
	if err != nil {
		return fmt.Errorf("model: forward: %w", err)
	}
	s := &m.step
	s.ops, s.err = ops, nil
	s.write(m.act.tokens, kernels.AsBytes(b.Tokens))
	s.rows, s.tokens, s.positions, s.slots, s.work = len(b.Tokens), m.act.tokens, m.lists.Positions, m.lists.Slots, work
	if err := m.layers(s, kv); err != nil {
		return err
	}
	m.computed.Add(int64(m.rows))
	return nil
}

// layers runs the step whose inputs are on the device.
func (m *Model) layers(s *step, kv *KV) error {
	s.embed(kernels.EmbedParams{Tokens: s.tokens, Sampled: m.act.sampled, Table: m.Embedding, Out: m.act.hidden, Rows: s.rows})
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
	return nil
}

// Logits computes the logits of the given rows of the last Forward, for Sample.
func (m *Model) Logits(ops kernels.Ops, rows []int32) error {
	m.logits = 0
	if len(rows) < 1 || len(rows) > m.options.MaxLogitRows {
		return fmt.Errorf("model: logits: got %d rows, want 1 to %d", len(rows), m.options.MaxLogitRows)
	}
	for _, r := range rows {
		if r < 0 || int(r) >= m.rows {
			return fmt.Errorf("model: logits: row %d, but the last step had %d", r, m.rows)
		}
	}
	s := &m.step
	s.ops, s.err = ops, nil
	s.write(m.act.index, kernels.AsBytes(rows))
	m.head(s, m.act.index, len(rows))
	if s.err != nil {
		return fmt.Errorf("model: logits: %w", s.err)
	}
	m.logits = len(rows)
	return nil
}

// head computes the logits of the rows that index lists.
func (m *Model) head(s *step, index kernels.Buffer, rows int) {
	s.head(kernels.HeadParams{
		X: m.act.hidden, Index: index, Norm: m.Norm, Eps: m.Config.NormEps,
		W: m.Head, Logits: m.act.logits, Rows: rows,
	})
}

// Sample takes one token for each row of the last Logits and waits for the result. out is [rows]; topTokens and topLogits
// are [rows, topN], and topN is at most MaxTop. It may be called again with other parameters.
func (m *Model) Sample(ops kernels.Ops, params []kernels.SampleRow, topN int, out []kernels.SampleOut, topTokens []int32, topLogits []float32) error {
	return m.SampleFiltered(ops, params, Filters{}, topN, out, topTokens, topLogits)
}

// SampleFiltered is Sample with filters. It allocates only for longer lists than any before.
func (m *Model) SampleFiltered(ops kernels.Ops, params []kernels.SampleRow, filters Filters, topN int, out []kernels.SampleOut, topTokens []int32, topLogits []float32) error {
	m.asked = 0
	if rows := m.logits; len(params) != rows || len(out) != rows {
		return fmt.Errorf("model: sampling: got parameters for %d rows and room for %d, want %d, and at least one", len(params), len(out), rows)
	}
	if err := m.Ask(ops, params, filters, topN, topTokens, topLogits); err != nil {
		return err
	}
	s := &m.step
	s.read(kernels.AsBytes(out), m.act.sampled)
	if s.err != nil {
		return fmt.Errorf("model: sampling: %w", s.err)
	}
	return nil
}

// Ask takes one token for each row of the last Logits, like SampleFiltered, and leaves them on the device, for Answers: those
// of the first Ask since Forward come first. It waits for the device only if topN is not 0.
func (m *Model) Ask(ops kernels.Ops, params []kernels.SampleRow, filters Filters, topN int, topTokens []int32, topLogits []float32) error {
	rows := m.logits
	switch {
	case len(params) != rows || rows == 0:
		return fmt.Errorf("model: sampling: got parameters for %d rows, want %d, and at least one", len(params), rows)
	case m.asked+rows > m.act.sampled.Bytes()/sampleOutBytes:
		return fmt.Errorf("model: sampling: asked for %d rows of one step", m.asked+rows)
	case topN < 0 || topN > MaxTop:
		return fmt.Errorf("model: sampling: got the %d largest logits, want 0 to %d", topN, MaxTop)
	case len(topTokens) != rows*topN || len(topLogits) != rows*topN:
		return fmt.Errorf("model: sampling: got room for %d and %d of the largest logits, want %d rows × %d", len(topTokens), len(topLogits), rows, topN)
	}
	if err := m.checkParams(params); err != nil {
		return fmt.Errorf("model: sampling: %w", err)
	}
	f, err := m.copyFilters(ops, filters, rows)
	if err != nil {
		return err
	}
	s, a := &m.step, &m.act
	s.ops, s.err = ops, nil
	s.write(a.params, kernels.AsBytes(params))
	s.sample(kernels.SampleParams{
		Logits: a.logits, Params: a.params, Out: a.sampled.Slice(m.asked*sampleOutBytes, rows*sampleOutBytes),
		Filters: f.rows, Biases: f.biases, Counts: f.counts,
		TopN: topN, TopTokens: a.topTokens, TopLogits: a.topLogits,
		Vocab: m.Config.Vocab, Rows: rows,
	})
	if topN > 0 {
		s.read(kernels.AsBytes(topTokens), a.topTokens)
		s.read(kernels.AsBytes(topLogits), a.topLogits)
	}
	if s.err != nil {
		return fmt.Errorf("model: sampling: %w", s.err)
	}
	m.asked += rows
	return nil
}

// checkParams says what is wrong with what rows ask for.
func (m *Model) checkParams(params []kernels.SampleRow) error {
	for i, p := range params {
		if p.Want < -1 || int(p.Want) >= m.Config.Vocab {
			return fmt.Errorf("row %d wants token %d, but the vocabulary has %d", i, p.Want, m.Config.Vocab)
		}
	}
	return nil
}

// AskAll asks for the next token of every row of the last Forward, as its Batch.Asks say.
func (m *Model) AskAll(ops kernels.Ops, b *Batch) error {
	if m.replaying != nil && m.replaying.asks {
		return m.replayAsks(ops)
	}
	for first := 0; first < len(b.Asks); first += m.options.MaxLogitRows {
		end := min(first+m.options.MaxLogitRows, len(b.Asks))
		m.index = m.index[:0]
		for row := first; row < end; row++ {
			m.index = append(m.index, int32(row))
		}
		if err := m.Logits(ops, m.index); err != nil {
			return err
		}
		if err := m.Ask(ops, b.Asks[first:end], Filters{}, 0, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Answers brings what was asked since Forward to out, in the order of the asking. Where the device can, it returns at once, and
// out is filled when Wait of what it returns does; else that is nil.
func (m *Model) Answers(ops kernels.Ops, out []kernels.SampleOut) (kernels.Pending, error) {
	if len(out) != m.asked {
		return nil, fmt.Errorf("model: answers: got room for %d rows, want %d", len(out), m.asked)
	}
	if len(out) == 0 {
		return nil, nil
	}
	src, dst := m.act.sampled.Slice(0, len(out)*sampleOutBytes), kernels.AsBytes(out)
	if f, ok := ops.(kernels.Fetcher); ok {
		p, err := f.Fetch(dst, src)
		if err != nil {
			return nil, fmt.Errorf("model: answers: %w", err)
		}
		return p, nil
	}
	if err := ops.Read(dst, src); err != nil {
		return nil, fmt.Errorf("model: answers: %w", err)
	}
	return nil, nil
}
