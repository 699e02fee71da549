package hubbar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/quire-llm/quire/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestMeter(t *testing.T) {
	c := newClock()
	var m meter
	m.add(0, c.now)
	require.Zero(t, m.at(c.now))
	for range 40 { // 10 s at 1 MB/s
		c.pass(250 * time.Millisecond)
		m.add(250_000, c.now)
	}
	require.InEpsilon(t, 1e6, m.at(c.now), 1e-9)
	for range 40 { // 10 s at 3 MB/s
		c.pass(250 * time.Millisecond)
		m.add(750_000, c.now)
	}
	require.InEpsilon(t, 3e6-2e6*0.1353, m.at(c.now), 1e-3) // e^-2 of the old rate is left
	c.pass(time.Minute)
	require.Less(t, m.at(c.now), 20.0, "after a minute without a byte")
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 250 * time.Millisecond: "250ms", 8 * time.Second: "8s", 185 * time.Second: "3m05s", 130 * time.Minute: "2h10m",
	} {
		require.Equal(t, want, duration(d))
	}
	for _, c := range []struct {
		bytes int64
		rate  float64
		want  string
	}{{0, 0, "0s"}, {-5, 1e6, "0s"}, {5, 0, "?"}, {1500, 1000, "2s"}, {1 << 60, 10, "?"}} {
		require.Equal(t, c.want, left(c.bytes, c.rate), "%d at %g", c.bytes, c.rate)
	}
	require.Equal(t, "model.safetensors", shorten("model.safetensors"))
	require.Equal(t, "model-00001-of-00030.safete…", shorten("model-00001-of-00030.safetensors"))
}

// What Lines says over a pull whose every event is given.
func TestLines(t *testing.T) {
	c := newClock()
	var out bytes.Buffer
	p := New(&out, Options{now: c.Now})
	o := p.Observer()
	o.Retry("", hub.Retry{Attempt: 1, Limit: 8, Pause: 1500 * time.Millisecond, Err: errors.New("boom")})
	large := hub.File{Name: "model.safetensors", Bytes: 1_000_000_000, HaveBytes: 200_000_000}
	small := hub.File{Name: "config.json", Bytes: 1000}
	o.Start(&hub.Pull{Files: []hub.File{large, small}})
	o.FileStart(large)
	o.FileStart(small)
	for i := range int64(30) { // 15 s at 20 MB/s
		c.pass(500 * time.Millisecond)
		o.Bytes(large.Name, large.HaveBytes+(i+1)*10_000_000)
	}
	o.Bytes(small.Name, 1000)
	o.FileDone(small)
	o.Wait("tokenizer.json")
	o.Retry(large.Name, hub.Retry{Attempt: 1, Limit: 1, Err: hub.ErrCorrupt})
	o.Bytes(large.Name, 0)
	c.pass(5 * time.Second)
	o.Bytes(large.Name, 100_000_000)
	c.pass(5 * time.Second)
	o.Bytes(large.Name, 1_000_000_000)
	o.FileDone(large)
	p.Close()
	p.Close()
	require.Equal(t, `listing: failure 1 of at most 9: boom; again in 1s
 39%  400 MB of 1.00 GB, 20.0 MB/s, 31s left, 0 of 2 files
tokenizer.json: waiting for another pull that is fetching it
model.safetensors: failure 1 of at most 2: content is not what was promised; again now
 10%  100 MB of 1.00 GB, 20.0 MB/s, 45s left, 1 of 2 files
2 files, 1.00 GB, fetched 1.30 GB in 25s, 52.0 MB/s
`, out.String())
}

// server is a model hub with the given files of one model.
func server(t *testing.T, files map[string][]byte) hub.Env {
	list := []map[string]any{}
	for name, content := range files {
		sum := sha256.Sum256(content)
		list = append(list, map[string]any{"rfilename": name, "size": len(content), "blobId": strings.Repeat("0", 40),
			"lfs": map[string]any{"sha256": hex.EncodeToString(sum[:]), "size": len(content)}})
	}
	listing, err := json.Marshal(map[string]any{"sha": strings.Repeat("0", 40), "siblings": list})
	require.NoError(t, err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			_, _ = w.Write(listing)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(files[path.Base(r.URL.Path)]))
	}))
	t.Cleanup(s.Close)
	return hub.Env{CacheDir: t.TempDir(), Endpoint: s.URL}
}

var (
	escape = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	colour = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

func TestBars(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		t.Run("NO_COLOR="+noColor, func(t *testing.T) {
			t.Setenv("NO_COLOR", noColor)
			files := map[string][]byte{"config.json": []byte("{}")}
			for i := range 6 {
				files[fmt.Sprintf("model-%d.safetensors", i)] = bytes.Repeat([]byte{byte(i)}, 1<<20)
			}
			env := server(t, files)
			var out bytes.Buffer
			shown := New(&out, Options{Style: Bars})
			observer := shown.Observer()
			begun := observer.FileDone
			observer.FileDone = func(f hub.File) {
				begun(f)
				if strings.HasSuffix(f.Name, "3.safetensors") {
					observer.Retry(f.Name, hub.Retry{Attempt: 2, Limit: 8, Pause: time.Second, Err: errors.New("boom")})
				}
			}
			p, err := hub.Prepare(context.Background(), env, "acme/tiny", hub.Options{Observer: observer})
			require.NoError(t, err)
			_, err = p.Run(context.Background())
			require.NoError(t, err)
			shown.Close()
			shown.Close()
			text := escape.ReplaceAllString(out.String(), "")
			for name, content := range files {
				require.Contains(t, text, fmt.Sprintf("%s  %s\n", name, hub.SizeString(int64(len(content)))))
			}
			require.Contains(t, text, "model-3.safetensors: failure 2 of at most 9: boom; again in 1s\n")
			require.Regexp(t, `7 files, 6\.29 MB, fetched 6\.29 MB in .*/s\n$`, text)
			if noColor != "" {
				require.NotRegexp(t, colour, out.String())
			}
		})
	}
}

// The bars of a pull that fails, or is cancelled, go away, and no summary claims that it is complete.
func TestBarsOfAFailedPull(t *testing.T) {
	env := server(t, map[string][]byte{"model.safetensors": bytes.Repeat([]byte{1}, 3<<20), "config.json": []byte("{}")})
	var out bytes.Buffer
	shown := New(&out, Options{Style: Bars})
	observer := shown.Observer()
	ctx, cancel := context.WithCancel(context.Background())
	set := observer.Bytes
	observer.Bytes = func(name string, have int64) {
		set(name, have)
		if name == "model.safetensors" {
			cancel()
		}
	}
	p, err := hub.Prepare(ctx, env, "acme/tiny", hub.Options{Observer: observer, Retries: -1})
	require.NoError(t, err)
	_, err = p.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	shown.Close()
	require.NotContains(t, out.String(), "fetched")
	observer.Bytes("model.safetensors", 5) // late events do no harm
	observer.FileDone(hub.File{Name: "model.safetensors"})
}

// Frames of a pull in progress, as mpb draws them in 80 columns.
func TestBarFrames(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	c := newClock()
	out := make(chanWriter, 100)
	p := New(out, Options{Style: Bars, now: c.Now, frames: make(chan any)})
	frame := func() string {
		p.options.frames <- true
		return escape.ReplaceAllString(<-out, "")
	}
	o := p.Observer()
	f := hub.File{Name: "model-00001-of-00030.safetensors", Bytes: 2_000_000_000, HaveBytes: 500_000_000}
	o.Start(&hub.Pull{Files: []hub.File{f, {Name: "b", Bytes: 2_000_000_000}}})
	o.FileStart(f)
	c.pass(10 * time.Second)
	o.Bytes(f.Name, 1_500_000_000)
	require.Equal(t, `model-00001-of-00030.safete… ━━━━━━━━━━━──── 1.50 GB of 2.00 GB  100 MB/s     5s
all                          ━━━━━━───────── 1.50 GB of 4.00 GB  100 MB/s    25s
`, frame())
	o.Bytes(f.Name, 0) // thrown away
	require.Equal(t, `model-00001-of-00030.safete… ───────────────     0 B of 2.00 GB  100 MB/s    20s
all                          ───────────────     0 B of 4.00 GB  100 MB/s    40s
`, frame())
	o.Bytes(f.Name, 2_000_000_000)
	o.FileDone(f)
	require.Equal(t, "model-00001-of-00030.safetensors  2.00 GB", strings.Split(frame(), "\n")[0])
	frame() // mpb shows a completed bar once more
	require.Equal(t, `all                          ━━━━━━━━─────── 2.00 GB of 4.00 GB  100 MB/s    20s
`, frame())
	p.Close()
	close(out)
	for text := range out {
		require.NotContains(t, text, "fetched")
	}
}

// chanWriter sends every write.
type chanWriter chan string

func (w chanWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestQuiet(t *testing.T) {
	env := server(t, map[string][]byte{"model.safetensors": []byte("x")})
	var out bytes.Buffer
	shown := New(&out, Options{Quiet: true})
	p, err := hub.Prepare(context.Background(), env, "acme/tiny", hub.Options{Observer: shown.Observer()})
	require.NoError(t, err)
	_, err = p.Run(context.Background())
	require.NoError(t, err)
	shown.Close()
	require.Empty(t, out.String())
}

func TestEverythingPresent(t *testing.T) {
	env := server(t, map[string][]byte{"model.safetensors": []byte("x"), "config.json": []byte("{}")})
	for _, style := range []Style{Lines, Bars} {
		var out bytes.Buffer
		for range 2 {
			out.Reset()
			shown := New(&out, Options{Style: style})
			p, err := hub.Prepare(context.Background(), env, "acme/tiny", hub.Options{Observer: shown.Observer()})
			require.NoError(t, err)
			_, err = p.Run(context.Background())
			require.NoError(t, err)
			shown.Close()
		}
		require.Equal(t, "2 files, 3 B, all present\n", out.String())
	}
}

func TestStyleOfAFile(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer file.Close()
	require.Equal(t, Lines, New(file, Options{}).options.Style)
	require.Equal(t, Bars, New(file, Options{Style: Bars}).options.Style)
}
