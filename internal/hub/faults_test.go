package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the server says ends a pull at once, with the right kind of error and advice.
func TestStatusErrors(t *testing.T) {
	for name, c := range map[string]struct {
		code   int
		error  string // X-Error-Code
		token  string
		target error
		hint   string
	}{
		"no token":           {401, "", "", ErrAccess, "set HF_TOKEN"},
		"no token and gated": {401, "GatedRepo", "", ErrAccess, "gated and no token was sent"},
		"bad token":          {401, "", testToken, ErrAccess, "does not accept the token"},
		"not granted":        {403, "GatedRepo", testToken, ErrAccess, "accept the terms at "},
		"forbidden":          {403, "", testToken, ErrAccess, "no access"},
		"no model":           {404, "RepoNotFound", testToken, ErrNotFound, "no such model"},
		"no revision":        {404, "RevisionNotFound", testToken, ErrNotFound, "no such revision"},
		"gone":               {410, "", testToken, ErrNotFound, "no such model"},
		"teapot":             {418, "", testToken, nil, "HF_ENDPOINT"},
	} {
		for _, file := range []string{"", "tokenizer.json"} {
			t.Run(fmt.Sprintf("%s for %q", name, file), func(t *testing.T) {
				h := newTestHub(t)
				env := h.env()
				env.Token = c.token
				f := status(c.code, "X-Error-Code", c.error, "Content-Length", "22")
				f.wire = func(b []byte) []byte { return append(b, "because\x1b[31m of\x01 this"...) }
				h.fail(file, 9, f)
				_, err := pull(env, h.options())
				var status *StatusError
				require.ErrorAs(t, err, &status)
				require.Equal(t, c.code, status.StatusCode)
				require.Equal(t, c.error, status.Code)
				require.Equal(t, "because?[31m of? this", status.Message)
				require.True(t, strings.HasPrefix(status.URL, h.URL), status.URL)
				for _, target := range []error{ErrAccess, ErrNotFound, ErrRateLimited, ErrServer, ErrOffline} {
					require.Equal(t, target == c.target, errors.Is(err, target), target)
				}
				require.Contains(t, Hint(err), c.hint)
				require.NotContains(t, err.Error(), testToken)
				require.Empty(t, h.clock.pauses())
			})
		}
	}
}

// Faults that pass are borne, in the listing and in files, with pauses that grow; faults that stay end the pull.
func TestPassingFaults(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		fault  fault
		pauses []time.Duration // for three in a row
		target error           // when it stays
	}{
		"408":                    {status(408), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, nil},
		"429":                    {status(429), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, ErrRateLimited},
		"429 with seconds":       {status(429, "Retry-After", "40"), []time.Duration{40 * time.Second, 40 * time.Second, 40 * time.Second}, ErrRateLimited},
		"503 with a date":        {status(503, "Retry-After", "Fri, 02 Jan 2026 03:04:10 GMT"), []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}, ErrServer},
		"nonsense in the header": {status(502, "Retry-After", "soon"), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, ErrServer},
		"500":                    {status(500), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, ErrServer},
		"no answer":              {cut(0), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, nil},
		"cut in the body":        {cutBody(7), []time.Duration{250 * ms, 500 * ms, 1000 * ms}, nil},
	} {
		for _, file := range []string{"", "tokenizer.json"} {
			t.Run(fmt.Sprintf("%s for %q", name, file), func(t *testing.T) {
				h := newTestHub(t)
				env := h.env()
				h.fail(file, 3, c.fault)
				dir, err := pull(env, h.options())
				require.NoError(t, err)
				h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
				require.Equal(t, c.pauses, h.clock.pauses())

				env = h.env()
				h.forget()
				h.fail(file, 1000, c.fault)
				_, err = pull(env, h.options())
				require.Error(t, err)
				require.NotEmpty(t, Hint(err))
				if c.target != nil {
					require.ErrorIs(t, err, c.target)
				}
				h.requireSound(env)
				if file != "" {
					require.Len(t, h.seen(file), 9, "requests: the first and 8 retries")
				}
			})
		}
	}
}

func TestServerAsksToWaitTooLong(t *testing.T) {
	h := newTestHub(t)
	h.fail("tokenizer.json", 1, status(429, "Retry-After", "3600"))
	_, err := pull(h.env(), h.options())
	require.ErrorIs(t, err, ErrRateLimited)
	require.ErrorContains(t, err, "1h0m0s")
	require.Empty(t, h.clock.pauses())
}

func TestPausesAreBounded(t *testing.T) {
	h := newTestHub(t)
	opt := h.options()
	opt.Retries, opt.Jitter = 20, func() float64 { return 0.999999 }
	h.fail("config.json", 20, status(500))
	_, err := pull(h.env(), opt)
	require.NoError(t, err)
	pauses := h.clock.pauses()
	require.Len(t, pauses, 20)
	for i, pause := range pauses {
		full := min(500*time.Millisecond<<i, 30*time.Second)
		require.InDelta(t, full.Seconds(), pause.Seconds(), 0.001, "pause %d", i)
	}
}

// A stall anywhere, before the headers too, ends the connection and is resumed.
func TestStalls(t *testing.T) {
	for name, f := range map[string]fault{
		"no answer":      {wire: func(b []byte) []byte { return nil }, stall: true},
		"in the headers": {wire: func(b []byte) []byte { return b[:30] }, stall: true},
		"in the body":    {wire: func(b []byte) []byte { return b[:len(b)-100] }, stall: true},
	} {
		for _, file := range []string{"", "model.safetensors"} {
			t.Run(fmt.Sprintf("%s of %q", name, file), func(t *testing.T) {
				h := newTestHub(t)
				opt := h.options()
				opt.Parallel = 1 // the clock is everybody's
				h.fail(file, 2, f)
				dir, err := pull(h.env(), opt)
				require.NoError(t, err)
				h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")

				h.forget()
				h.fail(file, 1000, f)
				_, err = pull(h.env(), opt)
				require.ErrorIs(t, err, ErrStalled)
				require.ErrorContains(t, err, "30s")
				require.NotEmpty(t, Hint(err))
			})
		}
	}
}

// What came before a stall is kept.
func TestStallIsResumed(t *testing.T) {
	h := newTestHub(t)
	opt := h.options()
	arrived := make(chan bool, 1)
	opt.Observer.Bytes = func(_ string, have int64) {
		if have == 4999 {
			arrived <- true
		}
	}
	f := cutBody(4999)
	f.sent, f.stall = func() { <-arrived }, true
	h.fail("model.safetensors", 1, f)
	dir, err := pull(h.env(), opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Equal(t, "bytes=4999-", h.seen("model.safetensors")[1].rangeHeader)
}

// A connection that is slow, but brings something now and then, is no stall.
func TestTrickle(t *testing.T) {
	h := newTestHub(t)
	opt := h.options()
	opt.Transport = trickle{h.clock, 20 * time.Second}
	opt.Parallel, opt.Retries = 1, -1
	dir, err := pull(h.env(), opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")

	opt.Transport = trickle{h.clock, 30 * time.Second}
	_, err = pull(h.env(), opt)
	require.ErrorIs(t, err, ErrStalled)
}

// trickle brings bodies a few bytes at a time, with a pause before each.
type trickle struct {
	clock *testClock
	pause time.Duration
}

func (t trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		response.Body = &trickleBody{response.Body, t, r.Context()}
	}
	return response, err
}

type trickleBody struct {
	io.ReadCloser
	trickle
	ctx context.Context
}

func (b *trickleBody) Read(p []byte) (int, error) {
	b.clock.advance(b.pause)
	if b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	return b.ReadCloser.Read(p[:min(100, len(p))])
}

// Servers that answer a resumption in strange ways still lead to the right bytes.
func TestStrangeResumptions(t *testing.T) {
	size := 5000
	edit := func(f func(*reply)) fault { return fault{edit: f} }
	full := func(h *testHub, etag string) fault {
		return edit(func(r *reply) { *r = whole(h.files["model.safetensors"], etag) })
	}
	for name, c := range map[string]struct {
		second   func(h *testHub) fault
		requests int
	}{
		"ignores the range":      {func(h *testHub) fault { return full(h, "") }, 2},
		"another tag, all of it": {func(h *testHub) fault { return full(h, `"new"`) }, 2},
		"another tag, the rest":  {func(*testHub) fault { return edit(func(r *reply) { r.header["ETag"] = `"new"` }) }, 3},
		"a weak tag, the rest":   {func(*testHub) fault { return edit(func(r *reply) { r.header["ETag"] = `W/"new"` }) }, 2},
		"416":                    {func(*testHub) fault { return status(416) }, 3},
		"no Content-Range":       {func(*testHub) fault { return edit(func(r *reply) { delete(r.header, "Content-Range") }) }, 3},
		"nonsense Content-Range": {func(*testHub) fault { return edit(func(r *reply) { r.header["Content-Range"] = "lines 1-2/3" }) }, 3},
		"another range": {func(*testHub) fault {
			return edit(func(r *reply) { r.header["Content-Range"] = "bytes 1999-4999/5000" })
		}, 3},
		"range past the end": {func(*testHub) fault {
			return edit(func(r *reply) { r.header["Content-Range"] = "bytes 2000-5000/5000" })
		}, 3},
		"unknown total": {func(*testHub) fault { return edit(func(r *reply) { r.header["Content-Range"] = "bytes 2000-4999/*" }) }, 2},
		"another total": {func(*testHub) fault {
			return edit(func(r *reply) { r.header["Content-Range"] = "bytes 2000-4999/6000" })
		}, 3},
		"shorter Content-Length": {func(*testHub) fault { return edit(func(r *reply) { r.header["Content-Length"] = "100" }) }, 3},
		"longer Content-Length":  {func(*testHub) fault { return edit(func(r *reply) { r.header["Content-Length"] = "9000" }) }, 3},
		"no Content-Length":      {func(*testHub) fault { return edit(func(r *reply) { delete(r.header, "Content-Length") }) }, 2},
		"more than was asked for": {func(*testHub) fault {
			return edit(func(r *reply) { delete(r.header, "Content-Length"); r.body = append(r.body, 0) })
		}, 3},
		"206 but from the start":   {func(h *testHub) fault { return edit(func(r *reply) { r.body = h.files["model.safetensors"][:3000] }) }, 3},
		"the rest, one byte wrong": {func(*testHub) fault { return fault{wire: func(b []byte) []byte { b[len(b)-1] ^= 8; return b }} }, 3},
		"zeros":                    {func(*testHub) fault { return edit(func(r *reply) { r.body = make([]byte, len(r.body)) }) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			h.script("model.safetensors", func(attempt int) fault {
				switch attempt {
				case 1:
					return cutBody(2000)
				case 2:
					return c.second(h)
				}
				return fault{}
			})
			env := h.env()
			dir, err := pull(env, h.options())
			require.NoError(t, err)
			h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
			h.requireSound(env)
			requests := h.seen("model.safetensors")
			require.Len(t, requests, c.requests)
			require.Equal(t, "bytes=2000-", requests[1].rangeHeader)
			require.Equal(t, `"`+h.digest("model.safetensors")+`"`, requests[1].ifRange)
		})
	}

	t.Run("206 without a range, to a request without one", func(t *testing.T) {
		h := newTestHub(t)
		h.fail("model.safetensors", 1, edit(func(r *reply) { r.status = 206 }))
		_, err := pull(h.env(), h.options())
		require.NoError(t, err)
		require.Len(t, h.seen("model.safetensors"), 2, "requests")
	})

	// And a server that is always so is refused in the end.
	for name, f := range map[string]fault{
		"longer":         edit(func(r *reply) { r.header["Content-Length"] = fmt.Sprint(size + 1); r.body = append(r.body, 0) }),
		"longer, hidden": edit(func(r *reply) { delete(r.header, "Content-Length"); r.body = append(r.body, 0) }),
		"shorter": edit(func(r *reply) {
			if r.status == 200 {
				r.body = r.body[:size-1]
				r.header["Content-Length"] = fmt.Sprint(size - 1)
			} else {
				status(416).edit(r)
			}
		}),
		"empty":          edit(func(r *reply) { *r = whole(nil, "") }),
		"other content":  edit(func(r *reply) { *r = whole(pattern(size, 99), "") }),
		"gzip":           edit(func(r *reply) { r.header["Content-Encoding"] = "gzip" }),
		"another range":  edit(func(r *reply) { r.status = 206; r.header["Content-Range"] = "bytes 1-4999/5000" }),
		"endless zeros":  edit(func(r *reply) { delete(r.header, "Content-Length"); r.body = make([]byte, 1<<20) }),
		"one byte a try": {wire: func(b []byte) []byte { return b[:strings.Index(string(b), "\r\n\r\n")+5] }},
	} {
		t.Run("always "+name, func(t *testing.T) {
			h := newTestHub(t)
			h.fail("model.safetensors", 1000, f)
			env := h.env()
			_, err := pull(env, h.options())
			require.Error(t, err)
			require.NotEmpty(t, Hint(err))
			h.requireSound(env)
			require.NoFileExists(t, filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("model.safetensors")))
			require.LessOrEqual(t, len(h.seen("model.safetensors")), 20, "requests")
		})
	}
}

// A server that brings a megabyte before each cut, but starts over each time, cannot hold a pull for ever; one that can
// resume completes a file over more cuts than there are retries.
func TestProgressResetsTheRetries(t *testing.T) {
	h := newTestHub(t)
	h.files["model.safetensors"] = pattern(12<<20+5, 1)
	h.fail("model.safetensors", 11, cutBody(progressBytes))
	opt := h.options()
	opt.Retries = 1
	dir, err := pull(h.env(), opt)
	require.NoError(t, err)
	h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
	require.Len(t, h.seen("model.safetensors"), 12, "requests")

	h.forget()
	h.fail("model.safetensors", 1000, fault{
		edit: func(r *reply) { *r = whole(h.files["model.safetensors"], "") },
		wire: cutBody(3 << 20).wire,
	})
	_, err = pull(h.env(), opt)
	require.Error(t, err)
	require.Len(t, h.seen("model.safetensors"), 2, "requests")
}

func TestRedirects(t *testing.T) {
	h := newTestHub(t)
	var authorization, ranges []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = append(authorization, r.Header.Get("Authorization"))
		ranges = append(ranges, r.Header.Get("Range"))
		if r.URL.Path == "/back" {
			http.Redirect(w, r, h.URL+"/back", http.StatusFound)
			return
		}
		h.write(w, ranged(h.files["model.safetensors"], `"cdn"`, r), fault{}, 0)
	}))
	t.Cleanup(other.Close)
	redirect := func(to string) fault {
		return status(302, "Location", to)
	}
	t.Run("to another host, resumed there, without the token", func(t *testing.T) {
		h.forget()
		authorization, ranges = nil, nil
		env := h.env()
		h.fail("model.safetensors", 9, redirect(other.URL+"/blob?signature=secret"))
		require.NoError(t, writePartial(env, h, 1234))
		dir, err := pull(env, h.options())
		require.NoError(t, err)
		h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
		require.Equal(t, []string{""}, authorization)
		require.Equal(t, []string{"bytes=1234-"}, ranges)
		require.Equal(t, "Bearer "+testToken, h.seen("model.safetensors")[0].authorization)
	})
	t.Run("there and back, without the token", func(t *testing.T) {
		h.forget()
		authorization = nil
		h.fail("model.safetensors", 9, redirect(other.URL+"/back"))
		_, err := pull(h.env(), h.options())
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, []string{""}, authorization)
		require.Empty(t, h.seen("/back")[0].authorization)
	})
	t.Run("on the same host, with the token", func(t *testing.T) {
		h.forget()
		h.fail("model.safetensors", 9, redirect("/elsewhere"))
		_, err := pull(h.env(), h.options())
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, "Bearer "+testToken, h.seen("/elsewhere")[0].authorization)
	})
	t.Run("in a circle", func(t *testing.T) {
		h.forget()
		h.fail("model.safetensors", 99, redirect("/"+testModel+"/resolve/"+testCommit+"/model.safetensors"))
		_, err := pull(h.env(), h.options())
		require.ErrorContains(t, err, "redirect")
		require.Len(t, h.seen("model.safetensors"), 10)
	})
	t.Run("to another scheme", func(t *testing.T) {
		h.forget()
		h.fail("model.safetensors", 99, redirect("file:///etc/passwd"))
		_, err := pull(h.env(), h.options())
		require.ErrorContains(t, err, "redirect")
		require.Contains(t, Hint(err), "HF_ENDPOINT")
		require.Len(t, h.seen("model.safetensors"), 1)
	})
	t.Run("errors do not show signatures", func(t *testing.T) {
		h.forget()
		h.fail("model.safetensors", 99, redirect("http://127.0.0.1:1/blob?signature=secret"))
		_, err := pull(h.env(), h.options())
		require.ErrorIs(t, err, ErrOffline)
		require.NotContains(t, err.Error(), "secret")
		require.Len(t, h.seen("model.safetensors"), 9, "the hub has answered, so it is worth retrying")
	})
}

// A redirect may not take a pull from https to http, where anybody may answer.
func TestNoDowngrade(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the client hangs up, as it should
	secure.StartTLS()
	t.Cleanup(secure.Close)
	h := newTestHub(t)
	env, opt := h.env(), h.options()
	env.Endpoint, opt.Transport = secure.URL, secure.Client().Transport
	_, err := pull(env, opt)
	require.ErrorContains(t, err, "redirect refused: from https to http")

	opt.Transport = nil // which does not know the server's authority
	_, err = pull(env, opt)
	require.ErrorContains(t, err, "certificate")
	require.Contains(t, Hint(err), "SSL_CERT_FILE")
	require.Empty(t, h.clock.pauses())
}
