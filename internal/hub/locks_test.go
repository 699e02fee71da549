package hub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestWhereThereAreNoLocks(t *testing.T) {
	h := newTestHub(t)
	env := h.env()
	p, err := Prepare(context.Background(), env, testModel, h.options())
	require.NoError(t, err)
	p.locks.try = func(*os.File) (bool, error) { return false, errNoLocks }
	h.fail("model.safetensors", 2, cutBody(2000))
	dir, err := p.Run(context.Background())
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	requireNoLeftovers(t, env.CacheDir)

	env, opt := h.env(), h.options()
	opt.Retries = -1
	p, err = Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	p.locks.try = func(*os.File) (bool, error) { return false, errNoLocks }
	h.fail("model.safetensors", 1000, cutBody(2000))
	_, err = p.Run(context.Background())
	require.Error(t, err)
	requireNoLeftovers(t, env.CacheDir)
}

// A lock whose file was removed by its last holder is not mistaken for the lock on the new file.
func TestLockOnARemovedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "work", "lock")
	clock := newTestClock()
	others := &locker{clock, tryLock}
	never := func() { t.Error("waited") }
	first, err := others.acquire(context.Background(), path, true, never)
	require.NoError(t, err)
	var second *fileLock
	tries := 0
	late := &locker{clock, func(file *os.File) (bool, error) {
		if tries++; tries == 1 { // late has opened the file of first, which goes before late can lock it
			first.release()
			second, err = others.acquire(context.Background(), path, true, never)
			require.NoError(t, err)
		}
		return tryLock(file)
	}}
	waits := 0
	third, err := late.acquire(context.Background(), path, true, func() { waits++; second.release() })
	require.NoError(t, err)
	require.Equal(t, 1, waits)
	third.release()
	require.NoFileExists(t, path)
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "work", "lock")
	locks := &locker{newTestClock(), tryLock}
	var holders atomic.Int32
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			for range 50 {
				lock, err := locks.acquire(context.Background(), path, i%2 == 0, func() {})
				if err != nil {
					return err
				}
				if n := holders.Add(1); n != 1 {
					return fmt.Errorf("%d holders", n)
				}
				holders.Add(-1)
				lock.release()
				_ = os.Remove(filepath.Dir(path)) // as the end of a pull does
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())

	lock, err := locks.acquire(context.Background(), path, true, func() {})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = locks.acquire(ctx, path, true, cancel)
	require.ErrorIs(t, err, context.Canceled)
	lock.release()
}

// Many pulls of one model at once, in one process as in several, bring every file once and right.
func TestPullsAtOnce(t *testing.T) {
	for name, locks := range map[string]func(*os.File) (bool, error){
		"with locks":    tryLock,
		"without locks": func(*os.File) (bool, error) { return false, errNoLocks },
	} {
		for _, local := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, folder %t", name, local), func(t *testing.T) {
				h := newTestHub(t)
				h.fail("model.safetensors", 3, cutBody(1000))
				env, opt := h.env(), h.options()
				if local {
					opt.LocalDir = filepath.Join(t.TempDir(), "model")
				}
				var group errgroup.Group
				var pulls []*Pull
				for range 6 {
					p, err := Prepare(context.Background(), env, testModel, opt)
					require.NoError(t, err)
					p.locks.try = locks
					pulls = append(pulls, p)
				}
				for _, p := range pulls {
					group.Go(func() error { _, err := p.Run(context.Background()); return err })
				}
				require.NoError(t, group.Wait())
				h.requireComplete(pulls[0].Dir, "config.json", "tokenizer.json", "model.safetensors")
				if !local {
					requireNoLeftovers(t, env.CacheDir)
				}
				if strings.HasPrefix(name, "with ") {
					require.Len(t, h.seen("tokenizer.json"), 1, "requests")
					require.Len(t, h.seen("model.safetensors"), 4, "requests")
				}
			})
		}
	}
}

// A pull that finds another at the same file says so and uses what the other brings.
func TestWaitingForAnotherPull(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	started, waited := make(chan bool), make(chan bool)
	h.fail("model.safetensors", 1, fault{hook: func() { close(started); <-waited }})
	first, err := Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	var events recorder
	opt.Observer = events.observer()
	opt.Observer.Wait = func(name string) {
		events.add("wait %s", name)
		if name == "model.safetensors" {
			close(waited)
		}
	}
	second, err := Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	var group errgroup.Group
	group.Go(func() error { _, err := first.Run(context.Background()); return err })
	<-started
	_, err = second.Run(context.Background())
	require.NoError(t, err)
	require.NoError(t, group.Wait())
	require.Len(t, h.seen("model.safetensors"), 1, "requests")
	require.Contains(t, events.list, "wait model.safetensors")
	require.Contains(t, events.list, "done model.safetensors")
	require.NotContains(t, events.list, "start model.safetensors 0")
}
