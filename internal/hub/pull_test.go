package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPullIntoCache(t *testing.T) {
	h := newTestHub(t)
	env := h.env()
	dir, err := pull(env, h.options())
	require.NoError(t, err)
	require.Equal(t, filepath.Join(env.CacheDir, "models--acme--tiny", "snapshots", testCommit), dir)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	h.requireSound(env)

	for name, digest := range map[string]string{
		"model.safetensors": digestOf(h.files["model.safetensors"], true),
		"config.json":       digestOf(h.files["config.json"], false),
	} {
		target, err := os.Readlink(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, filepath.Join("..", "..", "blobs", digest), target)
	}
	found, err := Find(env, testModel, "")
	require.NoError(t, err)
	require.Equal(t, dir, found)
	for _, r := range h.seen("") {
		require.Equal(t, "Bearer "+testToken, r.authorization, r.path)
		require.Equal(t, "identity", r.acceptEncoding, r.path)
	}
	require.FileExists(t, filepath.Join(env.CacheDir, ".locks", "models--acme--tiny", h.digest("config.json")+".lock"),
		"where huggingface_hub looks for it")
	requireNoLeftovers(t, env.CacheDir)

	h.forget()
	again, err := pull(env, h.options())
	require.NoError(t, err)
	require.Equal(t, dir, again)
	require.Len(t, h.seen(""), 1, "requests of a second pull")
}

// requireNoLeftovers fails if there are unfinished or temporary files.
func requireNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".incomplete") {
			t.Errorf("left over: %q", path)
		}
		return err
	}))
}

func TestPullAll(t *testing.T) {
	h := newTestHub(t)
	h.files["onnx/model.onnx"] = pattern(300, 4)
	h.files["a b/ü%2e#?.txt"] = []byte("name that must be escaped")
	opt := h.options()
	opt.All = true
	dir, err := pull(h.env(), opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors", "README.md", "onnx/model.onnx", "a b/ü%2e#?.txt")
	target, err := os.Readlink(filepath.Join(dir, "onnx", "model.onnx"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join("..", "..", "..", "blobs", h.digest("onnx/model.onnx")), target)
}

func TestPullIntoFolder(t *testing.T) {
	h := newTestHub(t)
	opt := h.options()
	opt.LocalDir = filepath.Join(t.TempDir(), "deep", "model")
	env := h.env()
	dir, err := pull(env, opt)
	require.NoError(t, err)
	require.Equal(t, opt.LocalDir, dir)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	require.NoDirExists(t, env.CacheDir)
	require.NoDirExists(t, filepath.Join(dir, ".cache"))
	for _, name := range []string{"config.json", "model.safetensors"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular(), name)
	}

	// Another revision's file of the same size is noticed, and only that one is fetched.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.json"), pattern(900, 7), 0o644))
	h.forget()
	_, err = pull(env, opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Len(t, h.seen("tokenizer.json"), 1)
	require.Len(t, h.seen(""), 2, "requests")
}

func TestPullRevision(t *testing.T) {
	h := newTestHub(t)
	for _, revision := range []string{"v1.0", "refs/pr/7", testCommit} {
		t.Run(strings.ReplaceAll(revision, "/", "_"), func(t *testing.T) {
			h.forget()
			env, opt := h.env(), h.options()
			opt.Revision = revision
			dir, err := pull(env, opt)
			require.NoError(t, err)
			require.Equal(t, "/api/models/acme/tiny/revision/"+strings.ReplaceAll(revision, "/", "%2F"), h.seen("")[0].escapedPath)
			found, err := Find(env, testModel, revision)
			require.NoError(t, err)
			require.Equal(t, dir, found)
			_, err = Find(env, testModel, "")
			require.ErrorIs(t, err, ErrNotFound, "main was not pulled")
			ref, err := os.ReadFile(filepath.Join(modelDir(env.CacheDir, testModel), "refs", revision))
			if revision == testCommit {
				require.ErrorIs(t, err, fs.ErrNotExist)
			} else {
				require.Equal(t, testCommit, string(ref))
			}
		})
	}
}

func TestPrepareIsADryRun(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	opt.FreeBytes = func(string) (int64, error) { return 2_500_000, nil }
	p, err := Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	require.NoDirExists(t, env.CacheDir)
	require.EqualValues(t, 5922, p.TotalBytes())
	require.EqualValues(t, 5922, p.MissingBytes())

	blobs := filepath.Join(modelDir(env.CacheDir, testModel), "blobs")
	require.NoError(t, os.MkdirAll(blobs, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(blobs, h.digest("config.json")), h.files["config.json"], 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(blobs, h.digest("model.safetensors")+".incomplete"), h.files["model.safetensors"][:1200], 0o644))
	p, err = Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	require.EqualValues(t, 4700, p.MissingBytes())
	var table bytes.Buffer
	require.NoError(t, p.WriteTable(&table))
	require.Equal(t, `FILE               SIZE     STATE
config.json        22 B     present
model.safetensors  5.00 kB  to resume at 1.20 kB
tokenizer.json     900 B    to fetch
3 files, 5.92 kB, 4.70 kB (4700 bytes) to fetch into `+p.Dir+`, 2.50 MB free
`, table.String())
	require.Len(t, h.seen(""), 2, "requests")
}

// What another program put into the cache counts, and gets its name in the snapshot.
func TestBlobsOfOthersAreUsed(t *testing.T) {
	h := newTestHub(t)
	env := h.env()
	blobs := filepath.Join(modelDir(env.CacheDir, testModel), "blobs")
	require.NoError(t, os.MkdirAll(blobs, 0o755))
	for name, content := range h.files {
		require.NoError(t, os.WriteFile(filepath.Join(blobs, h.digest(name)), content, 0o644))
	}
	dir, err := pull(env, h.options())
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Len(t, h.seen(""), 1, "requests")
}

func TestDamagedBlobs(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func([]byte) []byte
		verify  bool
		fetched int
	}{
		"cut short is noticed by its size":   {func(b []byte) []byte { return b[:100] }, false, 1},
		"a flipped byte is noticed if asked": {func(b []byte) []byte { b[9] ^= 4; return b }, true, 1},
		"nothing is read again unless asked": {func(b []byte) []byte { b[9] ^= 4; return b }, false, 0},
		"a sound blob is not fetched again":  {func(b []byte) []byte { return b }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			env, opt := h.env(), h.options()
			dir, err := pull(env, opt)
			require.NoError(t, err)
			blob := filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("model.safetensors"))
			damaged := c.damage(bytes.Clone(h.files["model.safetensors"]))
			require.NoError(t, os.WriteFile(blob, damaged, 0o644))
			h.forget()
			opt.Verify = c.verify
			_, err = pull(env, opt)
			require.NoError(t, err)
			require.Len(t, h.seen("model.safetensors"), c.fetched, "requests")
			if c.fetched > 0 {
				h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
			}
		})
	}
}

func TestCopiesWhereLinksDoNotWork(t *testing.T) {
	h := newTestHub(t)
	env := h.env()
	run := func() *Pull {
		p, err := Prepare(context.Background(), env, testModel, h.options())
		require.NoError(t, err)
		p.store.(*cacheStore).symlink = func(string, string) error { return errors.ErrUnsupported }
		_, err = p.Run(context.Background())
		require.NoError(t, err)
		return p
	}
	p := run()
	h.requireComplete(p.Dir, "config.json", "tokenizer.json", "model.safetensors")
	info, err := os.Lstat(filepath.Join(p.Dir, "model.safetensors"))
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
	requireNoLeftovers(t, env.CacheDir)

	require.NoError(t, os.Remove(filepath.Join(p.Dir, "config.json")))
	h.forget()
	run()
	h.requireComplete(p.Dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Len(t, h.seen(""), 1, "requests")

	// A copy is not believed when its blob had to be fetched again.
	require.NoError(t, os.Remove(filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("tokenizer.json"))))
	require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "tokenizer.json"), pattern(900, 77), 0o644))
	run()
	h.requireComplete(p.Dir, "config.json", "tokenizer.json", "model.safetensors")
}

// The pull works with the standard library's server, over connections that stay open, and leaves none behind.
func TestOrdinaryServer(t *testing.T) {
	h := newTestHub(t)
	var open atomic.Int32
	requests := map[net.Conn]int{}
	var mu sync.Mutex
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			_, _ = w.Write(h.list())
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.files[filepath.Base(r.URL.Path)]))
	}))
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateActive:
			requests[conn]++
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	none := func() bool { return open.Load() == 0 }
	env, opt := h.env(), h.options()
	env.Endpoint, opt.Parallel = server.URL, 1
	require.NoError(t, writePartial(env, h, 4321))
	p, err := Prepare(context.Background(), env, testModel, opt)
	require.NoError(t, err)
	require.Eventually(t, none, 10*time.Second, time.Millisecond, "open connections after Prepare")
	_, err = p.Run(context.Background())
	require.NoError(t, err)
	h.requireComplete(p.Dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Eventually(t, none, 10*time.Second, time.Millisecond, "open connections after Run")
	require.Len(t, requests, 2, "connections")
}

type recorder struct {
	sync.Mutex
	list []string
}

func (r *recorder) add(format string, args ...any) {
	r.Lock()
	defer r.Unlock()
	r.list = append(r.list, fmt.Sprintf(format, args...))
}

func (r *recorder) observer() Observer {
	return Observer{
		Start:     func(p *Pull) { r.add("pull %s %d", p.Model, p.MissingBytes()) },
		FileStart: func(f File) { r.add("start %s %d", f.Name, f.HaveBytes) },
		Bytes:     func(name string, have int64) { r.add("bytes %s %d", name, have) },
		FileDone:  func(f File) { r.add("done %s", f.Name) },
		Retry: func(name string, retry Retry) {
			r.add("retry %q %d/%d %v", name, retry.Attempt, retry.Limit, retry.Pause)
		},
	}
}

func TestObserver(t *testing.T) {
	h := newTestHub(t)
	h.files = map[string][]byte{"model.safetensors": pattern(100, 1)}
	h.fail("", 1, status(503))
	h.fail("model.safetensors", 1, cutBody(60))
	var events recorder
	opt := h.options()
	opt.Observer = events.observer()
	_, err := pull(h.env(), opt)
	require.NoError(t, err)
	require.Equal(t, []string{
		`retry "" 1/8 250ms`,
		"pull acme/tiny 100",
		"start model.safetensors 0",
		"bytes model.safetensors 60",
		`retry "model.safetensors" 1/8 250ms`,
		"bytes model.safetensors 100",
		"done model.safetensors",
	}, events.list)
}

func TestParallelFiles(t *testing.T) {
	for _, parallel := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			h := newTestHub(t)
			want := parallel
			if want == 0 {
				want = 4
			}
			var waiting atomic.Int32
			gate := make(chan bool)
			for i := range 12 {
				name := fmt.Sprintf("model-%d.safetensors", i)
				h.files[name] = pattern(50+i, byte(i))
				h.fail(name, 1, fault{hook: func() {
					if int(waiting.Add(1)) == want {
						close(gate) // so many are in progress at once
					}
					<-gate
				}})
			}
			delete(h.files, "config.json")
			delete(h.files, "tokenizer.json")
			delete(h.files, "model.safetensors")
			opt := h.options()
			opt.Parallel = parallel
			_, err := pull(h.env(), opt)
			require.NoError(t, err)
			require.Equal(t, want, h.top, "files in progress at once")
		})
	}
}

func TestDiskSpace(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	opt.FreeBytes = func(dir string) (int64, error) {
		require.DirExists(t, dir)
		return 5000, nil
	}
	_, err := pull(env, opt)
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.ErrorIs(t, err, ErrSpace)
	require.EqualValues(t, 5922, space.NeededBytes)
	require.EqualValues(t, 5000, space.FreeBytes)
	require.Contains(t, Hint(err), "free 922 B")
	require.NoDirExists(t, env.CacheDir)

	opt.FreeBytes = func(string) (int64, error) { return 5922, nil }
	_, err = pull(env, opt)
	require.NoError(t, err)

	free, err := freeBytes(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, free)
}

func TestDiskFullOnTheWay(t *testing.T) {
	h := newTestHub(t)
	p, err := Prepare(context.Background(), h.env(), testModel, h.options())
	require.NoError(t, err)
	p.locks.try = func(file *os.File) (bool, error) {
		return false, &os.PathError{Op: "write", Path: file.Name(), Err: syscall.ENOSPC}
	}
	_, err = p.Run(context.Background())
	require.ErrorIs(t, err, ErrSpace)
}

func TestOffline(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	env.Offline = true
	_, err := pull(env, opt)
	require.ErrorIs(t, err, ErrOffline)
	require.Contains(t, Hint(err), "does not have the model")
	require.Empty(t, h.seen(""))

	env.Offline = false
	dir, err := pull(env, opt)
	require.NoError(t, err)
	env.Offline = true
	_, err = pull(env, opt)
	require.ErrorIs(t, err, ErrOffline)
	require.Contains(t, Hint(err), dir)
}

func TestNoServer(t *testing.T) {
	h := newTestHub(t)
	env := h.env()
	h.Close()
	_, err := pull(env, h.options())
	require.ErrorIs(t, err, ErrOffline)
	var transfer *TransferError
	require.ErrorAs(t, err, &transfer)
	require.Contains(t, Hint(err), "cannot be reached")
	require.Equal(t, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}, h.clock.pauses())
}

func TestCancel(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	ctx, cancel := context.WithCancel(context.Background())
	f := cutBody(3000)
	f.sent = func() { <-ctx.Done() }
	h.fail("model.safetensors", 1, f)
	opt.Observer.Bytes = func(name string, _ int64) {
		if name == "model.safetensors" {
			cancel()
		}
	}
	p, err := Prepare(ctx, env, testModel, opt)
	require.NoError(t, err)
	_, err = p.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, Hint(err), "goes on")
	h.requireSound(env)
	_, err = Find(env, testModel, "")
	require.ErrorIs(t, err, ErrNotFound, "the revision must not be found before all its files are here")

	_, err = Prepare(ctx, env, testModel, opt)
	require.ErrorIs(t, err, context.Canceled)

	opt.Observer.Bytes = nil
	dir, err := pull(env, opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
}

// A file that fails for good ends the whole pull, and the next one keeps what was whole.
func TestOneFileFails(t *testing.T) {
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	opt.Parallel = 1
	h.fail("config.json", 1, status(403))
	_, err := pull(env, opt)
	require.ErrorIs(t, err, ErrAccess)
	require.ErrorContains(t, err, `file "config.json"`)
	h.requireSound(env)
	h.forget()
	_, err = pull(env, opt)
	require.NoError(t, err)
	require.Empty(t, h.seen("model.safetensors"))
}
