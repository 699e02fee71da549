package engine

import "github.com/quire-llm/quire/kernels"

// The sampler is a stage of its own after the forward pass: it asks for one token for each row, from that row's logits
// alone. What it draws depends on the request's seed and on the index of the token in its sequence, and on nothing else:
// not on the step, the batch, the row or how often the sequence was preempted.

// sampleRow asks for the token that comes after the sequence's last one.
func sampleRow(s *sequence) kernels.SampleRow {
	if s.force != nil {
		return kernels.SampleRow{Want: s.force[s.generated()]}
	}
	return kernels.SampleRow{
		Temperature: float32(s.samples.Temperature),
		Want:        -1,
		Seed:        s.samples.Seed,
		Counter:     uint64(len(s.tokens)),
	}
}

// promptRow asks how likely the prompt's token at index was.
func promptRow(s *sequence, index int) kernels.SampleRow {
	return kernels.SampleRow{Want: s.tokens[index]}
}
