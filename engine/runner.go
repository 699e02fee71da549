package engine

import (
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// runner computes steps, in the order of their submission. All calls but those that say otherwise come from the step loop. An error
// of submit, of collect or of a block's copy is the device's: it ends the engine.
type runner interface {
	// begin empties the step that is being built.
	begin()
	// add appends rows to the step: the tokens of one span, which are the last len(tokens) of view. It copies both. A token
	// -(i+1) stands for the one that answers question i of the step submitted just before this one.
	add(tokens []int32, view []kvcache.Segment) error
	// submit starts the step that was built, and q about it. It may return before there are answers: q is the runner's until
	// collect. At most two steps are submitted and not collected, each with questions of its own.
	submit(q *questions) error
	// collect waits for the oldest step that was submitted and not collected, and fills its questions' answers.
	collect() error
	// overlaps says whether a step may be submitted while the one before it runs, and whether that gains anything.
	overlaps() bool
	// copyBlock copies a block's keys and values in all layers.
	copyBlock(from, to kvcache.BlockID) error
	// readBlock copies a block out of the cache, as it is after all steps that were submitted so far; writeBlock copies one in,
	// behind those steps. Both have done so when they return. Any goroutine may call them: steps go on meanwhile, and leave the
	// block alone.
	readBlock(b kvcache.BlockID, dst []byte) error
	writeBlock(b kvcache.BlockID, src []byte) error
	// computed is the number of rows that were computed so far. Any goroutine may call it.
	computed() int64
}

// questions are the rows of a step whose logits are wanted, in the order of the step's rows. A row may be asked once.
type questions struct {
	rows   []int32             // [n] row of the step
	params []kernels.SampleRow // [n]
	topN   int                 // most likely tokens wanted for each; 0: none

	filters  model.Filters // a row for each question
	filtered bool          // some row of filters is not zero

	out       []kernels.SampleOut // [n], filled by collect
	topTokens []int32             // [n, topN], filled by collect
	topLogits []float32           // [n, topN], filled by collect
}

func (q *questions) reset() {
	q.rows, q.params, q.topN = q.rows[:0], q.params[:0], 0
	f := &q.filters
	f.Rows, f.Biases, f.Counts = f.Rows[:0], f.Biases[:0], f.Counts[:0]
	q.filtered = false
}

// add asks about a row. filter may refer to the lists of q.filters.
func (q *questions) add(row int, p kernels.SampleRow, filter kernels.SampleFilter, tops int) {
	q.filters.Rows = append(q.filters.Rows, filter)
	q.filtered = q.filtered || filter != kernels.SampleFilter{}
	q.rows = append(q.rows, int32(row))
	q.params = append(q.params, p)
	q.topN = max(q.topN, tops)
}

// plain says whether the questions are about the next token of each of so many rows, and nothing more.
func (q *questions) plain(rows int) bool {
	if q.filtered || q.topN > 0 || len(q.rows) != rows {
		return false
	}
	for i, row := range q.rows {
		if int(row) != i {
			return false
		}
	}
	return true
}

// part is the filters of some questions.
func (q *questions) part(first, end int) model.Filters {
	if !q.filtered {
		return model.Filters{}
	}
	f := q.filters
	f.Rows = f.Rows[first:end]
	return f
}

// makeRoom gives the answers their lengths.
func (q *questions) makeRoom() {
	n := len(q.rows)
	q.out = resized(q.out, n)
	q.topTokens = resized(q.topTokens, n*q.topN)
	q.topLogits = resized(q.topLogits, n*q.topN)
}

// tops are the n most likely tokens of question i.
func (q *questions) tops(i, n int) []TokenLogprob {
	if n == 0 {
		return nil
	}
	top := make([]TokenLogprob, 0, n)
	for k := i * q.topN; k < i*q.topN+n && q.topTokens[k] >= 0; k++ {
		top = append(top, TokenLogprob{q.topTokens[k], q.topLogits[k], q.topLogits[k] - q.out[i].LogSumExp})
	}
	return top
}

// resized is s with n elements, whatever they are.
func resized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}
