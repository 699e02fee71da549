// Package kvcachetest is the rules for a KV-cache strategy as a test, for this module's strategies and anybody's:
//
//	func TestMine(t *testing.T) { kvcachetest.Run(t, Mine{}) }
//
// The kit drives a manager as the engine does, with scripted and with random operations, beside a twin that knows for each
// sequence its tokens and which of them are computed, and beside a simulated device memory that knows for each slot what
// was written there: the tokens up to and with its own, the tenant, and the position. After every operation these hold:
//
//   - A span's rows see exactly the tokens 0..i of their sequence, in order, at the right positions, each in a slot that
//     holds that token's keys and values in that context, written before or by a span given earlier in the same step.
//   - Its own tokens are the last of its view, and no other span of the step writes their slots. No view names the null
//     block, a block that is not in use, or one beyond the capacity. Asked twice, a view is the same.
//   - Next gives tokens in order, within the budget, none twice, and none that the sequence has computed. While a token is
//     missing somewhere, a step with budget makes progress.
//   - Admission.Cached leaves at least the last token, all of them if ComputeAll asks so, and is what the sequence in the
//     end did not compute, unless a sequence was removed or a transfer failed meanwhile. Salts never share.
//   - A call that fails has changed nothing: counts, references and keys of all blocks, views.
//   - ErrNoSpace is true: a prompt of n tokens is taken in if the blocks it needs with nothing shared, each chunk rounded up
//     on its own, are at most Available; an extension by n tokens if n rounded up to blocks is. ErrTooLong is what cannot
//     fit an empty pool, and only that.
//   - Remove passes an unfinished span to one of those who wait for it. Its blocks are free at once, but a span that was
//     already given may still run in that step.
//   - A failed transfer leaves its target undefined. Copies and placements finish before the next rows run; loads and
//     stores take any number of steps, and the device may read or write their block until they are reported.
//   - Stats agree with the twin and with a scan of the pool. No more blocks are in use than sequences would need with
//     nothing shared, and two for each pending transfer. Check finds nothing wrong, and finds what the kit plants.
//   - With all sequences removed and all transfers done, nothing is in use and everything is available.
//
// Random rounds are numbered, and the number is their seed. A failure names it, and
//
//	KVCACHETEST_SEED=17 go test -run 'TestMine/random'
//
// replays that round alone; KVCACHETEST_ROUNDS=10000 runs that many instead of a few.
package kvcachetest

import (
	"os"
	"strconv"
	"testing"

	"github.com/quire-llm/quire/kvcache"
)

// Approximate is an optional ability of a Strategy: true says that a chunk's keys and values may be used after another
// context than they were computed in. The kit then asks of a chunk's slots only that they hold the chunk's own tokens.
type Approximate interface{ Approximate() bool }

// Reading is an optional ability of an approximate Strategy: how it reads a chunk by itself.
type Reading interface {
	// Reading says whether chunks are read after the prompt's first one, and how many tokens at the beginning of a chunk are
	// computed again in their context once the chunk is written, in blocks besides the chunk's.
	Reading() (afterHead bool, again int)
}

// Spaced is an optional ability of a strategy that reads chunks after the first one: HeadGap is how many positions stay free in
// between, or as many as the longest sequence has room for.
type Spaced interface{ HeadGap() int }

// Cutting is an optional ability of a Strategy: it cuts prompts that come without chunks.
type Cutting interface {
	// Cut appends the ends of the chunks, which then count like those of [kvcache.Prompt].
	Cut(dst []int, tokens []int32) []int
}

// Sharing is an optional ability of a Strategy: true says that sequences share what they have in common. The kit then
// also fails if nothing was ever reused.
type Sharing interface{ Sharing() bool }

// TB is what the kit needs of a test; *testing.T has it. Fatalf does not return.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Run runs all rules against a strategy, each as a subtest.
func Run(t *testing.T, s kvcache.Strategy) {
	for _, part := range parts() {
		t.Run(part.name, func(t *testing.T) { part.run(t, s) })
	}
}

// Verify is Run without subtests, for tests of the kit.
func Verify(t TB, s kvcache.Strategy) {
	t.Helper()
	for _, part := range parts() {
		part.run(t, s)
	}
}

type part struct {
	name string
	run  func(TB, kvcache.Strategy)
}

func parts() []part {
	var all []part
	for _, sc := range scenarios {
		all = append(all, part{sc.name, func(t TB, s kvcache.Strategy) {
			t.Helper()
			for _, blockTokens := range []int{16, 32, 64} {
				c := config{blockTokens: blockTokens, blocks: 40, maxTokens: 20 * blockTokens, anyPosition: true}
				w := newWorld(t, s, c, newRandom(1))
				w.guard(func() { sc.run(w) })
			}
		}})
	}
	return append(all, part{"random", random}, part{"decode without allocating", decodeWithoutAllocating})
}

// Defaults of the random part: operations in a round, and rounds where KVCACHETEST_ROUNDS does not say how many.
const (
	roundOperations = 150
	defaultRounds   = 250
)

// random runs rounds of random operations, each under a seed of its own.
func random(t TB, s kvcache.Strategy) {
	t.Helper()
	first, rounds := 1, fromEnv(t, "KVCACHETEST_ROUNDS", defaultRounds)
	alone := os.Getenv("KVCACHETEST_SEED") != ""
	if alone {
		first, rounds = fromEnv(t, "KVCACHETEST_SEED", 1), 1
	}
	t.Logf("kvcachetest: random rounds with seeds %d to %d; KVCACHETEST_SEED replays one", first, first+rounds-1)
	var total tally
	for seed := first; seed < first+rounds; seed++ {
		in := newRandom(uint64(seed))
		w := newWorld(t, s, drawConfig(in), in)
		w.replay = "KVCACHETEST_SEED=" + strconv.Itoa(seed) + ", part random"
		w.guard(func() {
			for range roundOperations {
				w.operate()
			}
			w.finish()
		})
		total.add(w.tally)
	}
	t.Logf("kvcachetest: %d sequences, %d tokens computed, %d of %d prompt tokens cached, %d transfers, %d evictions",
		total.sequences, total.computed, total.cached, total.prompt, total.transfers, total.evictions)
	if sh, ok := s.(Sharing); ok && sh.Sharing() && total.cached == 0 && !alone {
		t.Fatalf("kvcachetest: strategy %q says that it shares, and reused nothing of %d prompt tokens", s.Name(), total.prompt)
	}
}

func fromEnv(t TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("kvcachetest: %s: got %q, want a number", name, text)
	}
	return n
}

// tally is what happened in a world, so that a run can show that it tested something.
type tally struct {
	sequences, computed, prompt, cached, transfers, evictions int
}

func (t *tally) add(o tally) {
	t.sequences += o.sequences
	t.computed += o.computed
	t.prompt += o.prompt
	t.cached += o.cached
	t.transfers += o.transfers
	t.evictions += o.evictions
}
