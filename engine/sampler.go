package engine

import (
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
)

// The sampler is a stage of its own after the forward pass: it asks for one token for each row, from that row's logits
// alone. What it draws depends on the request's seed and on the index of the token in its sequence, and on nothing else:
// not on the step, the batch, the row or how often the sequence was preempted.

// sampleRow asks for the token that comes after the sequence's last one.
func sampleRow(s *sequence) kernels.SampleRow {
	if s.force != nil {
		return kernels.SampleRow{Want: s.force[s.generated()]}
	}
	return kernels.SampleRow{
		Temperature: s.temperature,
		Want:        -1,
		Seed:        s.seed,
		Counter:     uint64(len(s.tokens)),
	}
}

// filter is what the sequence asks for besides its temperature, its biases and counts added to lists.
func (s *sequence) filter(lists *model.Filters) kernels.SampleFilter {
	f := s.filtering
	if f == nil {
		return kernels.SampleFilter{}
	}
	bias, count := len(lists.Biases), len(lists.Counts)
	lists.Biases = append(lists.Biases, f.biases...)
	if s.generated() < f.min {
		lists.Biases = append(lists.Biases, f.ends...)
	}
	lists.Counts = append(lists.Counts, f.counts...)
	filter := f.filter
	if n := len(lists.Biases) - bias; n > 0 {
		filter.Bias, filter.Biases = int32(bias), int32(n)
	}
	if n := len(lists.Counts) - count; n > 0 {
		filter.Count, filter.Counts = int32(count), int32(n)
	}
	return filter
}

// promptRow asks how likely the prompt's token at index was.
func promptRow(s *sequence, index int) kernels.SampleRow {
	return kernels.SampleRow{Want: s.tokens[index]}
}
