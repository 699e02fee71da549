package kernels

import (
	"math"
	"unsafe"

	"github.com/quire-llm/quire/kernels/ref"
)

// few says whether TopK leaves any token of the vocabulary out.
func (f *SampleFilter) few(vocab int) bool { return f.TopK > 0 && int(f.TopK) < vocab }

// nucleus says whether TopP leaves any token out.
func (f *SampleFilter) nucleus() bool { return f.TopP > 0 && f.TopP < 1 }

// typical says whether TypicalP leaves any token out.
func (f *SampleFilter) typical() bool { return f.TypicalP > 0 && f.TypicalP < 1 }

// least is the weight that MinP asks for; none is left without any weight.
func (f *SampleFilter) least() uint64 {
	if f.MinP > 0 {
		return ref.Share(ref.Weight(0), f.MinP)
	}
	return 1
}

// blockPeaks is what the peaks kernel has written.
func (s *filtering) blockPeaks(vocab int) []float32 {
	return unsafe.Slice((*float32)(s.peaks), ceilDiv(vocab, filterBlock))
}

// blockSums is what the weigh kernel has written.
func (s *filtering) blockSums(vocab int) []uint64 {
	return unsafe.Slice((*uint64)(s.sums), ceilDiv(vocab, filterBlock))
}

// candidates is what the gather kernel has written, from each chunk's place on, and is free before that. There is room for
// twice the vocabulary.
func (s *filtering) candidates(vocab int) []candidate {
	return unsafe.Slice((*candidate)(s.room), 2*vocab)
}

// gathered is how many candidates each chunk has.
func (s *filtering) gathered(vocab int) []int64 {
	return unsafe.Slice((*int64)(s.counts), ceilDiv(vocab, sampleChunk))
}

// exponent is x, of which e^x is a token's weight.
func (r *filterRow) exponent(logit float32) float64 {
	return (float64(logit) - r.largest) / r.temperature
}

// weight is a token's.
func (r *filterRow) weight(logit float32) uint64 { return ref.Weight(r.exponent(logit)) }

// total is the sum of the blocks' weights.
func total(blocks []uint64) (sum uint64) {
	for _, w := range blocks {
		sum += w
	}
	return sum
}

// below is a mark that no logit of at least the given exponent is below. It leaves 1e-6 of room, which is far more than a
// weight, or an exponent, is off by.
func (r *filterRow) below(exponent float64) float32 {
	distance := (exponent - 1e-6) * r.temperature
	mark := r.largest + distance - (math.Abs(r.largest)+math.Abs(distance))*1e-15
	single := float32(mark)
	if float64(single) > mark {
		single = math.Nextafter32(single, float32(math.Inf(-1)))
	}
	return max(single, -math.MaxFloat32)
}

// edge is a mark that no logit of at least the given weight is below.
func (r *filterRow) edge(least uint64) float32 {
	return r.below(math.Log(float64(least) / float64(ref.Weight(0))))
}

// aim finds the largest logit, now that they are edited, and the mark up to which there is any weight, or as far as TopK goes.
func (s *filtering) aim(p *SampleParams) {
	f, logits := &p.filters()[s.row], p.row(s.row)
	if f.Biases+f.Counts > 0 {
		s.argmax = largest(logits, s.blockPeaks(p.Vocab), s.argmax)
	}
	if s.largest = float64(logits[s.argmax]); s.temperature == 0 || math.IsInf(s.largest, -1) {
		s.sums, s.room = nil, nil // that is the token
		return
	}
	s.mark = s.edge(1)
	if f.few(p.Vocab) {
		s.mark = max(s.mark, s.reached(p.Vocab, int(f.TopK)))
	}
}

// largest is the smallest id of the largest logit, or otherwise if all are −Inf. peaks are those of the blocks.
func largest(logits, peaks []float32, otherwise int32) int32 {
	value, block := float32(math.Inf(-1)), 0
	for i, peak := range peaks {
		if peak > value {
			value, block = peak, i
		}
	}
	if math.IsInf(float64(value), -1) {
		return otherwise
	}
	id := block * filterBlock
	for logits[id] != value {
		id++
	}
	return int32(id)
}

// reached is a mark that at least k logits reach, because so many blocks do.
func (s *filtering) reached(vocab, k int) float32 {
	blocks, n := s.candidates(vocab), 0
	for i, peak := range s.blockPeaks(vocab) {
		if peak >= -math.MaxFloat32 {
			blocks[n] = candidate{float64(peak), 1, int32(i)}
			n++
		}
	}
	if n < k {
		return -math.MaxFloat32
	}
	return float32(last(blocks[:n], blocks[n:], uint64(k)).score)
}

// setMark finds a mark that all reach that may be left.
func (s *filtering) setMark(p *SampleParams) {
	f, logits := &p.filters()[s.row], p.row(s.row)
	switch {
	case s.room == nil || f.few(p.Vocab):
		return
	case s.sums == nil:
		s.mark = s.edge(f.least())
		return
	}
	part := f.TopP
	if s.moments != nil {
		part = f.TypicalP
	}
	all := total(s.blockSums(p.Vocab))
	s.need = ref.Share(all, part)
	// What weighs so little that all of it together could go is not needed.
	s.mark = s.edge((all-s.need)/uint64(p.Vocab) + 1)
	s.loose = s.mark
	if s.enough, s.guessed = s.guess(logits, all-s.need); s.guessed {
		s.mark = s.below(s.exponent(s.enough))
	}
	if s.moments == nil {
		return
	}
	for _, m := range unsafe.Slice((*float64)(s.moments), ceilDiv(p.Vocab, sampleChunk)) {
		s.mean += m
	}
	s.mean /= float64(all)
	// Nor is what lies further from the mean than both the largest logit and those that are enough without it.
	opposite := s.below(2 * s.mean)
	s.mark, s.loose = min(s.mark, opposite), min(s.loose, opposite)
}

// Of each block a guess looks at the first guessRun logits. With fewer than guessLeast of them above the mark there is little
// to gather anyway.
const (
	guessRun   = 8
	guessLeast = 64
)

// guess looks at a part of the vocabulary for a higher mark than s.mark, below which lies about half of the weight that is
// not needed. It is wrong where that part is unlike the rest.
func (s *filtering) guess(logits []float32, notNeeded uint64) (enough float32, ok bool) {
	seen, n, all := s.candidates(len(logits)), 0, uint64(0)
	for at := 0; at < len(logits); at += filterBlock {
		for i, l := range logits[at:min(at+guessRun, len(logits))] {
			if l >= s.mark {
				seen[n] = candidate{float64(l), s.weight(l), int32(at + i)}
				all += seen[n].weight
				n++
			}
		}
	}
	below := notNeeded / (filterBlock / guessRun) / 2
	if n < guessLeast || below >= all {
		return 0, false
	}
	return float32(last(seen[:n], seen[n:], all-below).score), true
}

// missed says whether any guess was wrong, and sets the loose mark for these rows.
func (w *filterWork) missed(rows int) bool {
	missed := false
	for i := range rows {
		if s := w.at(i); s.guessed && !s.holds(w.params.Vocab) {
			s.mark, s.guessed, missed = s.loose, false, true
		}
	}
	return missed
}

// holds says whether the logits that were guessed to be enough have the needed weight.
func (s *filtering) holds(vocab int) bool {
	enough, sum := float64(s.enough), uint64(0)
	for chunk, n := range s.gathered(vocab) {
		for _, c := range s.candidates(vocab)[chunk*sampleChunk:][:n] {
			if c.score >= enough {
				sum += c.weight
			}
		}
	}
	return sum >= s.need
}
