package suite

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/sysinfo"
)

// run answers a point's batches one after another on an engine that has done nothing but the warm-up, and measures. If it
// is interrupted, the sample says what was done until then, together with the error. If it settles, a batch begins when nobody uses
// a block of the cache any more: who stores the blocks of the one before does.
func run(ctx context.Context, e *engine.Engine, batches [][]engine.Request, settles bool) (Sample, error) {
	var s Sample
	before := e.Stats()
	digest := sha256.New()
	var failed error
	for _, requests := range batches {
		for settles && e.Stats().BlocksUsed > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		earlier, start := e.Stats(), time.Now()
		results, err := e.Batch(ctx, requests)
		seconds := time.Since(start).Seconds()
		s.add(requests, results, start, seconds)
		if now := e.Stats(); len(batches) > 1 {
			s.Batches = append(s.Batches, BatchSample{seconds, now.TokensComputed - earlier.TokensComputed, now.CachedTokens - earlier.CachedTokens})
		}
		for _, r := range results {
			binary.Write(digest, binary.LittleEndian, int64(len(r.Tokens)))
			binary.Write(digest, binary.LittleEndian, r.Tokens)
		}
		if err != nil {
			failed = err
			break
		}
	}
	after := e.Stats()
	s.TokensComputed = after.TokensComputed - before.TokensComputed
	s.TokensReused = after.CachedTokens - before.CachedTokens
	s.Preemptions = after.Preemptions - before.Preemptions
	s.Steps = after.Steps - before.Steps
	s.SubmitSeconds, s.WaitSeconds = (after.SubmitTime - before.SubmitTime).Seconds(), (after.WaitTime - before.WaitTime).Seconds()
	s.KVBlocksPeak, s.KVBytesPeak = after.BlocksPeak, after.KVBytesPeak
	s.KVBlocksKept = after.BlocksCached
	s.RSSBytes = sysinfo.ReadProcess().RSSBytes
	s.OutputSHA256 = hex.EncodeToString(digest.Sum(nil))
	if failed == nil && after.TokensComputed == before.TokensComputed {
		failed = errors.New("suite: nothing went through the forward pass")
	}
	s.Incomplete = failed != nil
	return s, failed
}

// add takes one batch in that took seconds from start.
func (s *Sample) add(requests []engine.Request, results []engine.Result, start time.Time, seconds float64) {
	s.TimeSeconds += seconds
	if s.start.IsZero() {
		s.start = start
	}
	s.results = append(s.results, results...)
	var lastFirst time.Time
	for i, r := range results {
		s.InputTokens += max(r.Usage.PromptTokens, len(requests[i].Tokens))
		s.OutputTokens += len(r.Tokens)
		s.Inexact = s.Inexact || r.Err == nil && !r.Exact
		if len(r.At) == 0 {
			continue
		}
		s.TTFTSeconds = append(s.TTFTSeconds, r.At[0].Sub(start).Seconds())
		for k := 1; k < len(r.At); k++ {
			s.ITLSeconds = append(s.ITLSeconds, r.At[k].Sub(r.At[k-1]).Seconds())
		}
		if r.At[0].After(lastFirst) {
			lastFirst = r.At[0]
		}
	}
	if lastFirst.IsZero() {
		s.PrefillSeconds += seconds
		return
	}
	end := lastFirst
	for _, r := range results {
		for _, at := range r.At {
			if at.After(lastFirst) {
				s.DecodeTokens++
			}
			if at.After(end) {
				end = at
			}
		}
	}
	s.PrefillSeconds += lastFirst.Sub(start).Seconds()
	s.DecodeSeconds += end.Sub(lastFirst).Seconds()
}
