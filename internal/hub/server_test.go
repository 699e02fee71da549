package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if arguments := os.Getenv(childVariable); arguments != "" {
		os.Exit(runChild(arguments))
	}
	// The tests write and sync thousands of small files: in memory, where there is such a folder.
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	goleak.VerifyTestMain(m)
}

const (
	testModel  = "acme/tiny"
	testCommit = "0123456789abcdef0123456789abcdef01234567"
	testToken  = "hf_secret"
)

// reply is a response before it is written.
type reply struct {
	status int
	header map[string]string
	body   []byte
}

func (r *reply) wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", r.status, http.StatusText(r.status))
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, r.header[name])
	}
	b.WriteString("\r\n")
	b.Write(r.body)
	return b.Bytes()
}

// fault is what goes wrong with one response. The zero value is an honest response.
type fault struct {
	edit  func(*reply)        // before it is written
	wire  func([]byte) []byte // every byte of it, headers too
	stall bool                // then nothing more comes, and the clock moves past the stall timeout
	hook  func()              // called before anything is written
	sent  func()              // called after everything is written
}

func status(code int, header ...string) fault {
	return fault{edit: func(r *reply) {
		*r = reply{status: code, header: map[string]string{"Content-Length": "0", "Connection": "close"}}
		for i := 0; i < len(header); i += 2 {
			r.header[header[i]] = header[i+1]
		}
	}}
}

func cut(at int) fault {
	return fault{wire: func(b []byte) []byte { return b[:min(at, len(b))] }}
}

// cutBody cuts after so many bytes of the body.
func cutBody(at int) fault {
	return fault{wire: func(b []byte) []byte {
		return b[:min(bytes.Index(b, []byte("\r\n\r\n"))+4+at, len(b))]
	}}
}

func flip(at int, bit uint) fault {
	return fault{wire: func(b []byte) []byte {
		b = bytes.Clone(b)
		if at < len(b) {
			b[at] ^= 1 << bit
		}
		return b
	}}
}

// request is what the server remembers of one.
type request struct {
	path, escapedPath, rangeHeader, ifRange, authorization, acceptEncoding string
}

// testHub is a model hub with one repository, and all that can go wrong.
type testHub struct {
	*httptest.Server
	t       *testing.T
	files   map[string][]byte
	lfs     map[string]bool
	commit  string
	clock   *testClock
	listing func() []byte // nil for the honest one

	mu       sync.Mutex
	requests []request
	faults   map[string]func(attempt int) fault // by file name, "" is the listing; attempts count from 1
	attempts map[string]int
	now, top int // requests for files in progress, and the most ever
	epoch    int // grows with forget
}

func newTestHub(t *testing.T) *testHub {
	t.Helper()
	h := &testHub{t: t, commit: testCommit, clock: newTestClock(),
		files: map[string][]byte{
			"config.json":       []byte(`{"model_type":"qwen3"}`),
			"tokenizer.json":    pattern(900, 1),
			"model.safetensors": pattern(5000, 2),
			"README.md":         []byte("# Tiny"),
		},
		lfs:    map[string]bool{"model.safetensors": true},
		faults: map[string]func(int) fault{}, attempts: map[string]int{}}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	return h
}

// pattern is n bytes that depend on the seed and differ from their neighbours.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i/256) ^ seed*31
	}
	return b
}

// fail makes the first times requests for a file ("" for the listing) go wrong.
func (h *testHub) fail(name string, times int, f fault) {
	h.script(name, func(attempt int) fault {
		if attempt <= times {
			return f
		}
		return fault{}
	})
}

func (h *testHub) script(name string, f func(attempt int) fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[name], h.attempts[name] = f, 0
}

// forget forgets the faults and requests so far.
func (h *testHub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch++
	h.requests = nil
	clear(h.faults)
	clear(h.attempts)
}

// endpoint is a URL of the server that works until the next forget, so that what a dead pull still has on the way does
// not meddle with the next one.
func (h *testHub) endpoint() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%s/epoch/%d", h.URL, h.epoch)
}

// seen returns the requests whose path ends so.
func (h *testHub) seen(suffix string) []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []request
	for _, r := range h.requests {
		if strings.HasSuffix(r.path, suffix) {
			found = append(found, r)
		}
	}
	return found
}

func (h *testHub) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	h.mu.Lock()
	epoch := h.epoch
	if rest, ok := strings.CutPrefix(path, "/epoch/"); ok {
		number, rest, _ := strings.Cut(rest, "/")
		if path = "/" + rest; number != fmt.Sprint(epoch) {
			h.mu.Unlock()
			return
		}
	}
	name, isFile := strings.CutPrefix(path, "/"+testModel+"/resolve/"+h.commit+"/")
	isListing := strings.HasPrefix(path, "/api/models/"+testModel+"/revision/")
	if isListing {
		name = ""
	}
	h.requests = append(h.requests, request{r.URL.Path, r.URL.EscapedPath(), r.Header.Get("Range"), r.Header.Get("If-Range"),
		r.Header.Get("Authorization"), r.Header.Get("Accept-Encoding")})
	h.attempts[name]++
	var f fault
	if script := h.faults[name]; script != nil {
		f = script(h.attempts[name])
	}
	if isFile {
		h.now++
		h.top = max(h.top, h.now)
	}
	h.mu.Unlock()

	var answer reply
	content, known := h.files[name]
	switch {
	case isListing:
		answer = whole(h.list(), "")
		answer.header["Content-Type"] = "application/json"
	case isFile && known:
		answer = ranged(content, `"`+h.digest(name)+`"`, r)
	default:
		answer = reply{status: 404, header: map[string]string{"X-Error-Code": "EntryNotFound", "Content-Length": "0", "Connection": "close"}}
	}
	hook := f.hook
	f.hook = func() {
		if hook != nil {
			hook()
		}
		if isFile {
			h.mu.Lock()
			h.now-- // before the answer, after which the client may ask for the next file
			h.mu.Unlock()
		}
	}
	h.write(w, answer, f, epoch)
}

func (h *testHub) write(w http.ResponseWriter, answer reply, f fault, epoch int) {
	if f.hook != nil {
		f.hook()
	}
	if f.edit != nil {
		f.edit(&answer)
	}
	raw := answer.wire()
	if f.wire != nil {
		raw = f.wire(raw)
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		h.t.Errorf("hijack: %v", err)
		return
	}
	defer conn.Close()
	_, _ = conn.Write(raw) // the client may have gone
	if f.sent != nil {
		f.sent()
	}
	if f.stall {
		h.mu.Lock()
		if h.epoch == epoch {
			h.clock.advance(time.Hour)
		}
		h.mu.Unlock()
		_, _ = io.Copy(io.Discard, conn) // until the client gives up
	}
}

func whole(body []byte, etag string) reply {
	r := reply{200, map[string]string{"Content-Length": fmt.Sprint(len(body)), "Connection": "close"}, body}
	if etag != "" {
		r.header["ETag"] = etag
	}
	return r
}

// ranged is an honest server's answer to a request with or without a range.
func ranged(content []byte, etag string, r *http.Request) reply {
	var first int
	n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
	if check := r.Header.Get("If-Range"); n == 0 || check != "" && check != etag {
		return whole(content, etag)
	}
	if first >= len(content) {
		return reply{416, map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", len(content)), "Content-Length": "0", "Connection": "close"}, nil}
	}
	answer := whole(content[first:], etag)
	answer.status = 206
	answer.header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content))
	return answer
}

func (h *testHub) digest(name string) string { return digestOf(h.files[name], h.lfs[name]) }

func digestOf(content []byte, lfs bool) string {
	if lfs {
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:])
	}
	sum := sha1.Sum(append([]byte(fmt.Sprintf("blob %d\x00", len(content))), content...))
	return hex.EncodeToString(sum[:])
}

func (h *testHub) list() []byte {
	if h.listing != nil {
		return h.listing()
	}
	var siblings []map[string]any
	for name, content := range h.files {
		s := map[string]any{"rfilename": name, "size": len(content), "blobId": digestOf(content, false)}
		if h.lfs[name] {
			s["lfs"] = map[string]any{"sha256": h.digest(name), "size": len(content), "pointerSize": 134}
		}
		siblings = append(siblings, s)
	}
	slices.SortFunc(siblings, func(a, b map[string]any) int {
		return strings.Compare(a["rfilename"].(string), b["rfilename"].(string))
	})
	text, err := json.Marshal(map[string]any{"id": testModel, "sha": h.commit, "siblings": siblings})
	if err != nil {
		h.t.Error(err)
	}
	return text
}

func (h *testHub) env() Env {
	return Env{CacheDir: filepath.Join(h.t.TempDir(), "hub"), Endpoint: h.URL, Token: testToken}
}

func (h *testHub) options() Options {
	return Options{Clock: h.clock, Jitter: func() float64 { return 0 }}
}

// pull prepares and runs.
func pull(env Env, opt Options) (string, error) {
	p, err := Prepare(context.Background(), env, testModel, opt)
	if err != nil {
		return "", err
	}
	return p.Run(context.Background())
}

// requireSound fails unless every file that has a name in the cache is, byte for byte, what the name promises.
func (h *testHub) requireSound(env Env) {
	h.t.Helper()
	if err := h.unsound(env.CacheDir); err != nil {
		h.t.Fatal(err)
	}
}

func (h *testHub) unsound(cacheDir string) error {
	root := modelDir(cacheDir, testModel)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		kind, rest, _ := strings.Cut(filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator))), "/")
		switch {
		case kind == "blobs" && strings.HasSuffix(rest, ".incomplete"):
		case kind == "blobs" && rest == digestOf(content, len(rest) == 64):
		case kind == "refs" && string(content) == h.commit:
		case kind == "snapshots":
			commit, name, _ := strings.Cut(rest, "/")
			if want, ok := h.files[name]; commit != h.commit || !ok || !bytes.Equal(want, content) {
				return fmt.Errorf("wrong file %q: got %q, want %q", rest, content, want)
			}
		default:
			return fmt.Errorf("wrong file %q with %d bytes", path, len(content))
		}
		return nil
	})
}

// requireComplete fails unless dir holds the repository's files of these names, and no other file.
func (h *testHub) requireComplete(dir string, names ...string) {
	h.t.Helper()
	if err := h.incomplete(dir, names...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *testHub) incomplete(dir string, names ...string) error {
	var got []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		return fmt.Errorf("files in %q: got %q, want %q", dir, got, want)
	}
	for _, name := range names {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(content, h.files[name]) {
			return fmt.Errorf("file %q: got %q, want %q (%v)", name, content, h.files[name], err)
		}
	}
	return nil
}

// writePartial leaves the first bytes of the weights, as an earlier pull would.
func writePartial(env Env, h *testHub, size int) error {
	path := filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("model.safetensors")+".incomplete")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, h.files["model.safetensors"][:size], 0o644)
}
