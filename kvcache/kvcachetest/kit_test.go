package kvcachetest_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// bug is a fault that a cache may have, planted in a strategy to see that the kit catches it.
type bug int

const (
	none bug = iota
	doubleFree
	leakOnRemove
	publishedBeforeWritten
	notCompared
	parentIgnored
	saltIgnored
	waiterLost
	unwrittenKept
	pendingTakenForWritten
	staleAfterRelocation
	lastTokenNotLeft
	failedExtendKeepsBlocks
	failedAdmitKeepsHits
	hitNotReferenced
	sharedNotCounted
	failedLoadTaken
	failedStoreKept
	failedCopyTaken
	failedPlaceTaken
	copyKeepsSource
	storeNotHeld
	movedWhileLoading
	fullTooEarly
	computeAllIgnored
	budgetIgnored
	givenTwice
	tooLongCalledNoSpace
	noSpaceTooEarly
	availableTooFew
)

func TestARightStrategyPasses(t *testing.T) { kvcachetest.Run(t, prefix{}) }

func TestARightStrategyPassesWithKeysThatCollide(t *testing.T) {
	kvcachetest.Run(t, prefix{weakKeys: true})
}

func BenchmarkPrefix(b *testing.B) { kvcachetest.Bench(b, prefix{}) }

func FuzzPrefix(f *testing.F) {
	for _, seed := range kvcachetest.FuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) { kvcachetest.FuzzOps(t, prefix{}, data) })
}

// The kit has to catch these by what it sees itself: the strategy's own Check sees nothing.
func TestPlantedBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		bug  bug
		weak bool
	}{
		{"a block is freed twice", doubleFree, false},
		{"a block is kept when its sequence goes", leakOnRemove, false},
		{"a block counts as written when its span is given", publishedBeforeWritten, false},
		{"a hit is not compared", notCompared, true},
		{"what stands before a block is ignored", parentIgnored, false},
		{"the tenant is ignored", saltIgnored, false},
		{"nobody writes what a removed sequence was to write", waiterLost, false},
		{"a block that was never finished stays to be found", unwrittenKept, false},
		{"what a removed sequence was to write counts as written", pendingTakenForWritten, false},
		{"a view names a block that was moved away", staleAfterRelocation, false},
		{"nothing of a prompt is left to compute", lastTokenNotLeft, false},
		{"an extension that fails keeps blocks", failedExtendKeepsBlocks, false},
		{"an admission that fails keeps what it found", failedAdmitKeepsHits, false},
		{"a block in use is evicted", hitNotReferenced, false},
		{"a further reference is not counted", sharedNotCounted, false},
		{"a failed load counts as loaded", failedLoadTaken, false},
		{"a failed store counts as stored", failedStoreKept, false},
		{"a failed copy counts as copied", failedCopyTaken, false},
		{"a failed relocation counts as done", failedPlaceTaken, false},
		{"a copy's source is never let go", copyKeepsSource, false},
		{"a block is given away while it is stored", storeNotHeld, false},
		{"a block is moved while it is loaded", movedWhileLoading, false},
		{"a block counts as full one token too early", fullTooEarly, false},
		{"not all is computed where asked", computeAllIgnored, false},
		{"the budget is ignored", budgetIgnored, false},
		{"a span is given twice", givenTwice, false},
		{"what can never fit is told to wait", tooLongCalledNoSpace, false},
		{"no space is claimed though there is", noSpaceTooEarly, false},
		{"less is available than said", availableTooFew, false},
	} {
		t.Run(c.name, func(t *testing.T) { caught(t, prefix{bug: c.bug, weakKeys: c.weak}) })
	}
}

// caught runs the kit against a strategy with a bug, and fails if it passes.
func caught(t *testing.T, s kvcache.Strategy) {
	t.Helper()
	r := record(func(tb kvcachetest.TB) { kvcachetest.VerifyWithout(tb, s, "check finds damage") })
	require.NotEmpty(t, r.failure, "the kit passes a strategy with this bug")
	t.Log(firstLine(r.failure))
}

// recorder is a test that notes its failure instead of failing.
type recorder struct {
	failure string
	logged  []string
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) {
	r.logged = append(r.logged, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// record runs f in a goroutine of its own, which a failure ends.
func record(f func(kvcachetest.TB)) *recorder {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

func firstLine(s string) string {
	for i := range s {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}
