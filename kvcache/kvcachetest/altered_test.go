package kvcachetest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/kvcachetest"
)

// altered is kvcache.Standard with some of its manager's answers changed.
type altered struct {
	kvcache.Standard
	change func(m *changed)
}

func (s altered) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	m, err := s.Standard.NewManager(p, g)
	c := &changed{Manager: m, pool: p}
	s.change(c)
	return c, err
}

// changed is a manager with functions to be called in place of its own. Where they are nil it is unchanged.
type changed struct {
	kvcache.Manager
	pool   *kvcache.Pool
	admit  func(kvcache.SeqID, kvcache.Prompt) (kvcache.Admission, error)
	next   func([]kvcache.Span, kvcache.SeqID, int) []kvcache.Span
	view   func([]kvcache.Segment, kvcache.Span) []kvcache.Segment
	extend func(kvcache.SeqID, int) error
	remove func(kvcache.SeqID)
	moves  func([]kvcache.Move) []kvcache.Move
	resize func(int) (int, error)
	stats  func(*kvcache.Stats)
	check  func() error
	free   func() int
}

func (c *changed) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	if c.admit != nil {
		return c.admit(id, p)
	}
	return c.Manager.Admit(id, p)
}

func (c *changed) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	if c.next != nil {
		return c.next(dst, id, budget)
	}
	return c.Manager.Next(dst, id, budget)
}

func (c *changed) View(dst []kvcache.Segment, s kvcache.Span) []kvcache.Segment {
	if c.view != nil {
		return c.view(dst, s)
	}
	return c.Manager.View(dst, s)
}

func (c *changed) Extend(id kvcache.SeqID, n int) error {
	if c.extend != nil {
		return c.extend(id, n)
	}
	return c.Manager.Extend(id, n)
}

func (c *changed) Remove(id kvcache.SeqID) {
	if c.remove != nil {
		c.remove(id)
		return
	}
	c.Manager.Remove(id)
}

func (c *changed) Moves(dst []kvcache.Move) []kvcache.Move {
	if c.moves != nil {
		return c.moves(dst)
	}
	return c.Manager.Moves(dst)
}

func (c *changed) Resize(n int) (int, error) {
	if c.resize != nil {
		return c.resize(n)
	}
	return c.Manager.Resize(n)
}

func (c *changed) Available() int {
	if c.free != nil {
		return c.free()
	}
	return c.Manager.Available()
}

func (c *changed) Stats() kvcache.Stats {
	st := c.Manager.Stats()
	if c.stats != nil {
		c.stats(&st)
	}
	return st
}

func (c *changed) Check() error {
	if c.check != nil {
		return c.check()
	}
	return c.Manager.Check()
}

// segment changes the one segment that Standard shows.
func segment(change func(*kvcache.Segment)) func(*changed) {
	return func(c *changed) {
		c.view = func(dst []kvcache.Segment, s kvcache.Span) []kvcache.Segment {
			dst = c.Manager.View(dst, s)
			change(&dst[len(dst)-1])
			return dst
		}
	}
}

// first puts another block in the place of a view's first.
func first(other kvcache.BlockID) func(*changed) {
	return segment(func(s *kvcache.Segment) {
		s.Blocks = slices.Clone(s.Blocks)
		s.Blocks[0] = other
	})
}

func TestAnUnchangedStrategyPasses(t *testing.T) {
	kvcachetest.Run(t, altered{change: func(*changed) {}})
}

// A strategy that shares nothing can be wrong, too. Each case names the rule by which it has to be caught.
func TestWrongAnswersAreCaught(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*changed)
		want   string
	}{
		{"the view lacks the newest token", segment(func(s *kvcache.Segment) { s.Len-- }), "malformed segment"},
		{"the view lacks the oldest token", segment(func(s *kvcache.Segment) {
			if s.Len%2 == 0 {
				s.Off, s.Len, s.Pos, s.Stored = 1, s.Len-1, 1, 1
			}
		}), "tokens, want"},
		{"the view starts one token late", segment(func(s *kvcache.Segment) {
			if s.Len%16 != 0 {
				s.Off++
			}
		}), "which nobody has written"},
		{"the view has a block too many", segment(func(s *kvcache.Segment) { s.Blocks = append(s.Blocks, s.Blocks[0]) }), "malformed segment"},
		{"the view stands one position late", segment(func(s *kvcache.Segment) { s.Pos, s.Stored = 1, 1 }), "token 0 stands at position 1"},
		{"keys are said to be rotated for another position", segment(func(s *kvcache.Segment) { s.Stored++ }), "token 0 at position 0 is rotated for 1"},
		{"the view names the null block", first(0), "is the null block"},
		{"the view names a block beyond the pool", first(99), "is block 99, of a pool of"},
		{"the view forgets what was in dst", func(c *changed) {
			c.view = func(_ []kvcache.Segment, s kvcache.Span) []kvcache.Segment { return c.Manager.View(nil, s) }
		}, "did not append"},
		{"the view changes when asked again", func(c *changed) {
			asked := 0
			c.view = func(dst []kvcache.Segment, s kvcache.Span) []kvcache.Segment {
				if dst = c.Manager.View(dst, s); s.Start+s.Len > 32 {
					asked++
					last := &dst[len(dst)-1]
					last.Blocks = slices.Clone(last.Blocks)
					last.Blocks[0], last.Blocks[asked%2] = last.Blocks[asked%2], last.Blocks[0]
				}
				return dst
			}
		}, "changed since it was planned"},
		{"spans forget what was in dst", func(c *changed) {
			c.next = func(_ []kvcache.Span, id kvcache.SeqID, n int) []kvcache.Span { return c.Manager.Next(nil, id, n) }
		}, "did not append"},
		{"a span is one token too long", func(c *changed) {
			c.next = func(dst []kvcache.Span, id kvcache.SeqID, n int) []kvcache.Span {
				if dst = c.Manager.Next(dst, id, n); len(dst) > 1 {
					dst[1].Len++
				}
				return dst
			}
		}, "and a budget of"},
		{"a token is never given", func(c *changed) {
			c.next = func(dst []kvcache.Span, id kvcache.SeqID, n int) []kvcache.Span {
				if dst = c.Manager.Next(dst, id, n); len(dst) > 1 && dst[1].Len > 1 {
					dst[1].Start, dst[1].Len = dst[1].Start+1, dst[1].Len-1
				}
				return dst
			}
		}, "which nobody has written"},
		{"nothing is given without a large budget", func(c *changed) {
			c.next = func(dst []kvcache.Span, id kvcache.SeqID, n int) []kvcache.Span {
				return c.Manager.Next(dst, id, min(n, 1)*(n>>21))
			}
		}, "nobody computes what"},
		{"a prompt is said to be cached", func(c *changed) {
			c.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				a, err := c.Manager.Admit(id, p)
				a.Cached = (len(p.Tokens) - 1) / 16
				return a, err
			}
			c.stats = func(st *kvcache.Stats) { st.CachedTokens = -1 }
		}, "Stats.CachedTokens: got -1"},
		{"a sequence is admitted twice", func(c *changed) {
			c.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				if a, err := c.Manager.Admit(id, p); err == nil || len(p.Tokens) != 1 {
					return a, err
				}
				return kvcache.Admission{}, nil
			}
		}, "Admit of a sequence that is admitted: got no error"},
		{"a refusal is of no known kind", func(c *changed) {
			c.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				a, err := c.Manager.Admit(id, p)
				if errors.Is(err, kvcache.ErrNoSpace) {
					err = errors.New("full")
				}
				return a, err
			}
		}, "got error full, want one that matches"},
		{"what does not fit now is refused for ever", func(c *changed) {
			c.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				a, err := c.Manager.Admit(id, p)
				if errors.Is(err, kvcache.ErrNoSpace) {
					err = fmt.Errorf("full: %w", kvcache.ErrTooLong)
				}
				return a, err
			}
		}, "blocks"},
		{"a block is kept back", func(c *changed) {
			c.admit = func(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
				if (len(p.Tokens)+15)/16 >= c.pool.Available() {
					return kvcache.Admission{}, kvcache.ErrNoSpace
				}
				return c.Manager.Admit(id, p)
			}
		}, "blocks are needed"},
		{"an extension is longer than allowed", func(c *changed) {
			c.extend = func(id kvcache.SeqID, n int) error {
				if err := c.Manager.Extend(id, n); !errors.Is(err, kvcache.ErrTooLong) {
					return err
				}
				return nil
			}
		}, "Extend beyond the longest sequence: got no error"},
		{"an extension that fails has extended", func(c *changed) {
			c.extend = func(id kvcache.SeqID, n int) error {
				if err := c.Manager.Extend(id, n); !errors.Is(err, kvcache.ErrNoSpace) {
					return err
				}
				_ = c.Manager.Extend(id, c.Manager.Available())
				return kvcache.ErrNoSpace
			}
		}, "and a budget of"},
		{"an extension by nothing is taken", func(c *changed) {
			c.extend = func(id kvcache.SeqID, n int) error {
				if n == 0 {
					return nil
				}
				return c.Manager.Extend(id, n)
			}
		}, "Extend by no tokens: got no error"},
		{"a removed sequence stays", func(c *changed) { c.remove = func(kvcache.SeqID) {} }, "Stats.Sequences"},
		{"a transfer of no kind is asked for", func(c *changed) {
			c.moves = func(dst []kvcache.Move) []kvcache.Move { return append(dst, kvcache.Move{}) }
		}, "kind 0, which is none"},
		{"the null block is stored", func(c *changed) {
			c.moves = func(dst []kvcache.Move) []kvcache.Move { return append(dst, kvcache.Move{Kind: kvcache.MoveStore}) }
		}, "a store's source is the null block"},
		{"a shrink that is not reached is claimed", func(c *changed) {
			c.resize = func(n int) (int, error) { _, err := c.Manager.Resize(n); return n, err }
		}, "the pool has"},
		{"a resize is refused", func(c *changed) {
			c.resize = func(n int) (int, error) { return c.pool.Blocks(), errors.New("cannot") }
		}, "cannot"},
		{"the peak is not the peak", func(c *changed) { c.stats = func(st *kvcache.Stats) { st.BlocksPeak = st.BlocksUsed } }, "Stats.BlocksPeak"},
		{"used blocks are not counted", func(c *changed) { c.stats = func(st *kvcache.Stats) { st.BlocksUsed = 0 } }, "Stats.BlocksUsed"},
		{"everything waits", func(c *changed) { c.stats = func(st *kvcache.Stats) { st.WaitingSpans = st.Sequences } }, "Stats.WaitingSpans"},
		{"a transfer is pending for ever", func(c *changed) { c.stats = func(st *kvcache.Stats) { st.PendingMoves = 1 } }, "Stats.PendingMoves stays 1"},
		{"more is available than there is", func(c *changed) { c.free = func() int { return c.pool.Available() + 1 } }, "Available: got"},
		{"the check sees nothing", func(c *changed) { c.check = func() error { return nil } }, "Check finds nothing wrong"},
		{"the check always finds something", func(c *changed) { c.check = func() error { return errors.New("odd") } }, "Check: odd"},
		{"the manager panics", func(c *changed) { c.remove = func(kvcache.SeqID) { panic("lost") } }, "panic: lost"},
		{"a decode step allocates", func(c *changed) {
			c.view = func(dst []kvcache.Segment, s kvcache.Span) []kvcache.Segment {
				return append(dst, c.Manager.View(nil, s)...)
			}
		}, "allocations in 100 decode steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(func(tb kvcachetest.TB) { kvcachetest.VerifyWithout(tb, altered{change: c.change}, "") })
			require.Contains(t, r.failure, c.want)
		})
	}
}

func TestTwoWritersOfASlotAreCaught(t *testing.T) {
	r := record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, altered{change: first(1)}, "tenants") })
	require.Contains(t, r.failure, "which another span of this step writes")
}

// boasting says that it shares, and does not.
type boasting struct{ kvcache.Standard }

func (boasting) Sharing() bool { return true }

func TestAStrategyThatDoesNotShareIsReported(t *testing.T) {
	r := record(func(tb kvcachetest.TB) { kvcachetest.Verify(tb, boasting{}) })
	require.Contains(t, r.failure, "says that it shares, and reused nothing")
}

func TestAFailureTellsHowToReplayIt(t *testing.T) {
	late := altered{change: func(c *changed) {
		admitted := 0
		c.remove = func(id kvcache.SeqID) {
			if admitted++; admitted != 25 {
				c.Manager.Remove(id)
			}
		}
	}}
	r := record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, late, "random") })
	require.Regexp(t, `replay: KVCACHETEST_SEED=\d+, part random`, r.failure)
	require.Regexp(t, `remove \d+\n$`, r.failure, "the last line is the operation that failed")

	t.Setenv("KVCACHETEST_SEED", "1000")
	again := record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, late, "random") })
	require.Contains(t, again.failure, "replay: KVCACHETEST_SEED=1000, part random")
	t.Setenv("KVCACHETEST_SEED", "first")
	wrong := record(func(tb kvcachetest.TB) { kvcachetest.VerifyPart(tb, late, "random") })
	require.Contains(t, wrong.failure, `KVCACHETEST_SEED: got "first", want a number`)
}
