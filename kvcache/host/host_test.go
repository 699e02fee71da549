package host

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/kvcache/disk"
)

var geometry = kvcache.Geometry{BlockTokens: 16, BytesPerToken: 64, Identity: [32]byte{1}}

const blockBytes = 1024

// ids are the tokens of block n.
func ids(n byte) []int32 { return []int32{int32(n), 7} }

func content(n byte) []byte { return bytes.Repeat([]byte{n}, blockBytes) }

func key(n byte) kvcache.Key { return kvcache.Key{0: n, 31: n} }

func open(t testing.TB, tier Tier) *Store {
	t.Helper()
	s, err := tier.Open(geometry)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(*Store)
}

func TestTheLeastRecentlyUsedGoes(t *testing.T) {
	s := open(t, Tier{Bytes: 3*blockBytes + 10})
	got := make([]byte, blockBytes)
	for n := range byte(3) {
		require.NoError(t, s.Save(key(n), ids(n), content(n)))
	}
	require.NoError(t, s.Load(key(0), ids(0), got))
	require.Equal(t, content(0), got)
	require.NoError(t, s.Save(key(1), ids(1), content(1)), "again: used")
	require.NoError(t, s.Save(key(3), ids(3), content(3)))
	require.Equal(t, []bool{true, true, false, true}, []bool{s.Has(key(0)), s.Has(key(1)), s.Has(key(2)), s.Has(key(3))})
	require.Equal(t, 3, s.Blocks())
	require.ErrorIs(t, s.Load(key(2), ids(2), got), errGone)
	require.ErrorContains(t, s.Load(key(3), ids(2), got), "other tokens under the same key")
	require.Error(t, s.Load(key(3), ids(3), got[1:]))
	require.Error(t, s.Save(key(4), ids(4), got[1:]))
}

// What goes to memory goes to the disk, too; what memory has no room for comes from there, and after a restart all of it.
func TestOverADisk(t *testing.T) {
	tier := Tier{Bytes: 2 * blockBytes, Under: disk.Tier{Dir: t.TempDir()}}
	got := make([]byte, blockBytes)
	for round := range 2 {
		s := open(t, tier)
		for n := range byte(5) {
			require.Equal(t, round > 0, s.Has(key(n)))
			require.NoError(t, s.Save(key(n), ids(n), content(n)))
		}
		require.Equal(t, 2, s.Blocks())
		for n := range byte(5) {
			require.NoError(t, s.Load(key(n), ids(n), got))
			require.Equal(t, content(n), got)
		}
		require.Equal(t, 2, s.Blocks(), "the last two that were asked for")
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "twice is fine")
		require.Zero(t, s.Blocks())
		require.NoError(t, s.Save(key(1), ids(1), content(1)), "a save that comes late")
		require.Zero(t, s.Blocks())
	}
}

// failing is a tier whose saves and loads fail, over nothing.
type failing struct{ warned bool }

var errFailing = errors.New("it fails")

func (f *failing) Open(kvcache.Geometry) (kvcache.Store, error) { return f, nil }
func (*failing) Has(kvcache.Key) bool                           { return false }
func (*failing) Load(kvcache.Key, []int32, []byte) error        { return errFailing }
func (*failing) Save(kvcache.Key, []int32, []byte) error        { return errFailing }
func (*failing) Close() error                                   { return errFailing }
func (f *failing) Warn(func(string))                            { f.warned = true }

func TestOverWhatFails(t *testing.T) {
	under := &failing{}
	opened, err := Tier{Bytes: blockBytes, Under: under}.Open(geometry)
	require.NoError(t, err)
	s, got := opened.(*Store), make([]byte, blockBytes)
	s.Warn(func(string) {})
	require.True(t, under.warned)
	require.NoError(t, s.Save(key(1), ids(1), content(1)), "it is in memory")
	require.NoError(t, s.Load(key(1), ids(1), got))
	require.ErrorIs(t, s.Load(key(2), ids(2), got), errFailing)
	require.ErrorIs(t, s.Close(), errFailing)
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		tier Tier
		want string
	}{
		{Tier{}, "a bound of 0 bytes holds no block of 1024"},
		{Tier{Bytes: -1}, "a bound of -1 bytes"},
		{Tier{Bytes: 1 << 20, Under: disk.Tier{}}, "no directory is named"},
	} {
		_, err := c.tier.Open(geometry)
		require.ErrorContains(t, err, c.want)
	}
}

// Many at once: who finds a block gets all of it, whatever is evicted meanwhile.
func TestManyAtOnce(t *testing.T) {
	s := open(t, Tier{Bytes: 8 * blockBytes})
	var group sync.WaitGroup
	errs := make(chan error, 8)
	for worker := range uint64(8) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 1))
			dst := make([]byte, blockBytes)
			for range 2000 {
				n := byte(rng.IntN(20))
				if rng.IntN(2) == 0 {
					if err := s.Save(key(n), ids(n), content(n)); err != nil {
						errs <- err
						return
					}
				} else if err := s.Load(key(n), ids(n), dst); err == nil && !bytes.Equal(dst, content(n)) {
					errs <- fmt.Errorf("block %d holds something else", n)
					return
				}
				if s.Has(key(n)) && s.Blocks() > 8 {
					errs <- errors.New("more than there is room for")
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	require.Equal(t, 8, s.Blocks())
}
