package kernels

import (
	"math"

	"github.com/quire-llm/quire/kernels/ref"
)

// keep is the tokens that the filter leaves, in the order of their ids. Their scores mean nothing any more.
func (s *filtering) keep(p *SampleParams) []candidate {
	f, logits := &p.filters()[s.row], p.row(s.row)
	left, spare := s.pack(p.Vocab)
	if s.moments != nil {
		return s.typicalOfAll(left, spare, logits)
	}
	if f.few(p.Vocab) {
		left = topK(left, spare, uint64(f.TopK))
		s.need = ref.Share(weight(left), f.TopP)
	}
	if f.nucleus() {
		left = leading(left, last(left, spare, s.need))
	}
	left = heavy(left, f.least())
	if f.typical() {
		s.mean = s.meanOf(left, logits)
		s.judge(left, logits)
		left = leading(left, last(left, spare, ref.Share(weight(left), f.TypicalP)))
	}
	return left
}

// pack moves the candidates of all chunks together. spare has room for as many.
func (s *filtering) pack(vocab int) (left, spare []candidate) {
	room, n := s.candidates(vocab), 0
	for chunk, count := range s.gathered(vocab) {
		n += copy(room[n:], room[chunk*sampleChunk:][:count])
	}
	return room[:n], room[n:]
}

// topK leaves the k first.
func topK(left, spare []candidate, k uint64) []candidate {
	ones := spare[:len(left)]
	for i := range left {
		ones[i] = candidate{left[i].score, 1, left[i].id}
	}
	return leading(left, last(ones, ones, k))
}

// heavy leaves those of at least the given weight.
func heavy(left []candidate, least uint64) []candidate {
	n := 0
	for i := range left {
		if left[i].weight >= least {
			left[n] = left[i]
			n++
		}
	}
	return left[:n]
}

// meanOf is the candidates' mean exponent, summed in the order of ids.
func (s *filtering) meanOf(left []candidate, logits []float32) float64 {
	sum := 0.0
	for i := range left {
		sum += float64(float64(left[i].weight) * s.exponent(logits[left[i].id]))
	}
	return sum / float64(weight(left))
}

// judge gives candidates the scores of TypicalP: the nearer to the mean exponent the better. −log p of a token differs from
// its exponent by a constant, and so does the entropy from the mean.
func (s *filtering) judge(left []candidate, logits []float32) {
	for i := range left {
		left[i].score = -math.Abs(s.exponent(logits[left[i].id]) - s.mean)
	}
}

// typicalOfAll is TypicalP where nothing else leaves any out. The mean's last bits depend on the order in which the kernels
// sum; package ref's order is that of ids, and slow. So that one is taken only where it could make a difference.
func (s *filtering) typicalOfAll(left, spare []candidate, logits []float32) []candidate {
	s.judge(left, logits)
	end := last(left, spare, s.need)
	if s.close(left, &end, logits) {
		sum, all := 0.0, uint64(0)
		for _, l := range logits {
			if w := s.weight(l); w > 0 {
				sum += float64(float64(w) * s.exponent(l))
				all += w
			}
		}
		s.mean = sum / float64(all)
		s.judge(left, logits)
		end = last(left, spare, s.need)
	}
	return heavy(leading(left, end), 1)
}

// close says whether another sum's mean could bring a token across the end. Two sums of n numbers of one sign in any order
// are apart by less than n/2^52 of them; those of the same logit stay together.
func (s *filtering) close(left []candidate, end *candidate, logits []float32) bool {
	slack := 1e-12 + math.Abs(s.mean)*float64(len(logits))*0x1p-50
	for i := range left {
		if math.Abs(left[i].score-end.score) <= slack && logits[left[i].id] != logits[end.id] {
			return true
		}
	}
	return false
}

// weight is the sum of the candidates' weights.
func weight(left []candidate) (sum uint64) {
	for i := range left {
		sum += left[i].weight
	}
	return sum
}

// before is the order in which tokens are left.
func (c *candidate) before(d *candidate) bool {
	return c.score > d.score || c.score == d.score && c.id < d.id
}

// leading leaves those up to the last, in the order of before. What is left stays in the order of ids.
func leading(left []candidate, last candidate) []candidate {
	n := 0
	for i := range left {
		if !last.before(&left[i]) {
			left[n] = left[i]
			n++
		}
	}
	return left[:n]
}

// buckets is how many parts last makes of a range of scores.
const buckets = 256

// last is the candidate with which the first ones, in the order of before, come to have the needed weight; the last of all
// where all have less. Candidates come in the order of ids; spare has room for as
// many, and may be the same.
//
// It adds up the weights in equal parts of the range of scores, and goes on with the part where the sum gets there.
func last(left, spare []candidate, need uint64) candidate {
	for {
		low, high := left[0].score, left[0].score
		for i := range left {
			low, high = min(low, left[i].score), max(high, left[i].score)
		}
		if low == high {
			break
		}
		scale := buckets / (high - low)
		bucket := func(c *candidate) int { return min(int((high-c.score)*scale), buckets-1) }
		var sums [buckets]uint64
		for i := range left {
			sums[bucket(&left[i])] += left[i].weight
		}
		b := 0
		for ; b < buckets-1 && sums[b] < need; b++ {
			need -= sums[b]
		}
		n := 0
		for i := range left {
			if bucket(&left[i]) == b {
				spare[n] = left[i]
				n++
			}
		}
		left = spare[:n]
	}
	i := 0
	for ; i < len(left)-1 && left[i].weight < need; i++ {
		need -= left[i].weight
	}
	return left[i]
}
