package host

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

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
		require.ErrorIs(t, s.Save(key(1), ids(1), content(1)), errClosed, "a save that comes late")
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

// counted is memory that is counted, of which there may be no more.
type counted struct {
	mu    sync.Mutex
	given map[*byte]int
	most  int
	bytes int
}

var errNoMore = errors.New("no more")

func (c *counted) AllocHost(bytes int) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes+bytes > c.most {
		return nil, errNoMore
	}
	b := make([]byte, bytes)
	c.given[&b[0]], c.bytes = bytes, c.bytes+bytes
	return b, nil
}

func (c *counted) FreeHost(host []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given[&host[0]] != len(host) {
		panic("not whole, or not given out")
	}
	delete(c.given, &host[0])
	c.bytes -= len(host)
}

// TestTheDevicesMemory: blocks lie in it, within the bound, and all of it goes back, after whoever is still reading.
func TestTheDevicesMemory(t *testing.T) {
	m := &counted{given: map[*byte]int{}, most: 1 << 20}
	s := open(t, Tier{Bytes: 3 * blockBytes})
	s.UseMemory(m)
	for n := range byte(20) {
		require.NoError(t, s.SaveBy(key(n), ids(n), func(dst []byte) error {
			require.Len(t, dst, blockBytes)
			copy(dst, content(n))
			return nil
		}))
	}
	require.Equal(t, 3*blockBytes, m.bytes)
	require.NoError(t, s.SaveBy(key(19), ids(19), func([]byte) error { panic("it is there") }))
	require.ErrorIs(t, s.SaveBy(key(20), ids(20), func([]byte) error { return errFailing }), errFailing)
	require.False(t, s.Has(key(20)))
	require.ErrorContains(t, s.LoadBy(key(19), ids(1), func([]byte) error { panic("others") }), "other tokens under the same key")
	require.ErrorIs(t, s.LoadBy(key(19), ids(19), func([]byte) error { return errFailing }), errFailing)

	// What is read stays as it is, also when its block is given up, and holds up the end.
	reading, read := make(chan struct{}), make(chan error, 1)
	more := make(chan struct{})
	go func() {
		read <- s.LoadBy(key(19), ids(19), func(src []byte) error {
			close(reading)
			<-more
			if !bytes.Equal(src, content(19)) {
				return errFailing
			}
			return nil
		})
	}()
	<-reading
	for n := range byte(10) {
		require.NoError(t, s.Save(key(n), ids(n), content(n)))
	}
	require.False(t, s.Has(key(19)))
	require.LessOrEqual(t, m.bytes, 4*blockBytes, "one is on its way")
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Fatal("closed while a block is read")
	case <-time.After(10 * time.Millisecond):
	}
	close(more)
	require.NoError(t, <-read)
	require.NoError(t, <-closed)
	require.Zero(t, m.bytes)
}

// TestWithoutTheDevicesMemory goes on with ordinary memory, and says so once.
func TestWithoutTheDevicesMemory(t *testing.T) {
	m := &counted{given: map[*byte]int{}}
	s := open(t, Tier{Bytes: 3 * blockBytes})
	var lines []string
	s.UseMemory(m)
	s.Warn(func(line string) { lines = append(lines, line) })
	got := make([]byte, blockBytes)
	for n := range byte(8) {
		require.NoError(t, s.Save(key(n), ids(n), content(n)))
		require.NoError(t, s.Load(key(n), ids(n), got))
		require.Equal(t, content(n), got)
	}
	require.Equal(t, []string{"host: blocks are kept in memory that the device reaches slowly: no more"}, lines)
}
