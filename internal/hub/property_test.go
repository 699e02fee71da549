package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// newSmallHub has one short file, so that every byte of every response can be tried.
func newSmallHub(t *testing.T) *testHub {
	h := newTestHub(t)
	h.files = map[string][]byte{"model.safetensors": pattern(97, 3)}
	return h
}

// responseBytes is the length of the honest response to the first request for the file.
func (h *testHub) responseBytes() int {
	body := whole(h.files["model.safetensors"], `"`+h.digest("model.safetensors")+`"`)
	return len(body.wire())
}

// A response cut after any byte, of its headers too, is resumed by the same pull.
func TestCutAnywhereIsResumed(t *testing.T) {
	h := newSmallHub(t)
	for at := range h.responseBytes() {
		h.forget()
		h.fail("model.safetensors", 1, cut(at))
		env := h.env()
		dir, err := pull(env, h.options())
		require.NoError(t, err, "cut after byte %d", at)
		h.requireComplete(dir, "model.safetensors")
		requests := h.seen("model.safetensors")
		require.Len(t, requests, 2, "cut after byte %d", at)
		if body := at - (h.responseBytes() - 97); body > 0 {
			require.Equal(t, fmt.Sprintf("bytes=%d-", body), requests[1].rangeHeader)
			require.Equal(t, `"`+h.digest("model.safetensors")+`"`, requests[1].ifRange)
		} else {
			require.Empty(t, requests[1].rangeHeader, "cut after byte %d", at)
		}
	}
}

// A pull that dies after any byte leaves what it has to the next one, in the cache and in a folder.
func TestDeathAnywhereIsResumed(t *testing.T) {
	h := newSmallHub(t)
	for at := range 97 {
		for _, local := range []string{"", filepath.Join(t.TempDir(), "model")} {
			h.forget()
			h.fail("model.safetensors", 1, cutBody(at))
			env, opt := h.env(), h.options()
			opt.LocalDir, opt.Retries = local, -1
			_, err := pull(env, opt)
			require.Error(t, err, "cut after byte %d", at)
			h.requireSound(env)
			require.NoFileExists(t, filepath.Join(local, "model.safetensors"))

			p, err := Prepare(context.Background(), env, testModel, opt)
			require.NoError(t, err)
			require.EqualValues(t, at, p.Files[0].HaveBytes)
			dir, err := p.Run(context.Background())
			require.NoError(t, err)
			h.requireComplete(dir, "model.safetensors")
			if at > 0 {
				require.Equal(t, fmt.Sprintf("bytes=%d-", at), h.seen("model.safetensors")[1].rangeHeader)
			}
		}
	}
}

// A byte flipped anywhere in a response, of its headers too, is noticed: the pull succeeds with the right bytes or
// fails, and nothing that it leaves spoils the next one.
func TestFlipAnywhereIsNoticed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := newSmallHub(t)
	headers := h.responseBytes() - 97
	for _, name := range []string{"", "model.safetensors"} {
		length := h.responseBytes()
		if name == "" {
			listing := whole(h.list(), "")
			length = len(listing.wire())
		}
		for at := range length {
			bit := uint(random.IntN(8))
			h.forget()
			h.fail(name, 1, flip(at, bit))
			env := h.env()
			dir, err := pull(env, h.options())
			h.requireSound(env)
			switch {
			case err == nil:
				h.requireComplete(dir, "model.safetensors")
			case name != "" && at >= headers:
				t.Fatalf("byte %d of the content flipped once: got %v, want a second attempt", at-headers, err)
			}
			h.forget()
			dir, err = pull(env, h.options())
			require.NoError(t, err, "after flipping bit %d of byte %d of %q", bit, at, name)
			h.requireComplete(dir, "model.safetensors")
		}
	}
}

// A byte that is flipped every time is refused, and nothing of the content stays.
func TestFlipEveryTimeIsRefused(t *testing.T) {
	h := newSmallHub(t)
	for at := range 97 {
		h.forget()
		h.fail("model.safetensors", 100, flip(h.responseBytes()-97+at, 0))
		env := h.env()
		_, err := pull(env, h.options())
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.ErrorIs(t, err, ErrCorrupt)
		require.Equal(t, "model.safetensors", corrupt.File)
		require.Equal(t, h.digest("model.safetensors"), corrupt.Want)
		require.Len(t, h.seen("model.safetensors"), 2, "requests")
		left, err := os.ReadDir(filepath.Join(modelDir(env.CacheDir, testModel), "blobs"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// What lies in a partial from an earlier run is not believed.
func TestSpoiledPartialIsFetchedAgain(t *testing.T) {
	h := newSmallHub(t)
	want := h.files["model.safetensors"]
	for name, left := range map[string][]byte{
		"other bytes":      pattern(50, 9),
		"one flipped byte": append(append([]byte{}, want[:40]...), want[40]^1),
		"whole but wrong":  pattern(97, 9),
		"too long":         append(append([]byte{}, want...), 0),
		"whole and right":  want,
		"zeros":            make([]byte, 60),
	} {
		t.Run(name, func(t *testing.T) {
			h.forget()
			env := h.env()
			path := filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("model.safetensors")+".incomplete")
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, left, 0o644))
			dir, err := pull(env, h.options())
			require.NoError(t, err)
			h.requireComplete(dir, "model.safetensors")
			switch requests := h.seen("model.safetensors"); name {
			case "whole and right":
				require.Empty(t, requests)
			case "too long", "whole but wrong":
				require.Len(t, requests, 1)
			default:
				require.Len(t, requests, 2)
			}
		})
	}
}

// Any sequence of faults, with deaths of the pull in between, ends in right files or an error; and when the faults
// stop, in right files.
func TestRandomFaults(t *testing.T) {
	h := newTestHub(t)
	delete(h.files, "README.md")
	names := []string{"", "config.json", "tokenizer.json", "model.safetensors"}
	drawFault := func(t *rapid.T, name string) fault {
		at := rapid.OneOf(rapid.IntRange(0, 400), rapid.IntRange(0, 6000)).Draw(t, "at")
		kind := rapid.IntRange(0, 9).Draw(t, "kind")
		if name == "" && kind == 2 {
			kind = 0 // nothing but TLS keeps a name or commit in the listing from becoming another
		}
		switch kind {
		case 0:
			return cut(at)
		case 1:
			return cutBody(at)
		case 2:
			return flip(at, uint(at%8))
		case 3:
			f := cutBody(at)
			f.stall = true
			return f
		case 4:
			code := rapid.SampledFrom([]int{408, 416, 429, 500, 502, 503, 504}).Draw(t, "code")
			return status(code, "Retry-After", "7")
		case 5:
			return fault{edit: func(r *reply) { r.header["Content-Length"] = fmt.Sprint(at) }}
		case 6: // ignores the range and says so, or does not
			code := rapid.SampledFrom([]int{200, 206}).Draw(t, "code")
			return fault{edit: func(r *reply) { r.status = code; delete(r.header, "Content-Range") }}
		case 7:
			return fault{edit: func(r *reply) { r.header["ETag"] = fmt.Sprintf(`"%d"`, at) }}
		case 8:
			return fault{edit: func(r *reply) { r.header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", at, at+9, at+10) }}
		}
		return fault{}
	}
	rapid.Check(t, func(rt *rapid.T) {
		env := Env{CacheDir: filepath.Join(t.TempDir(), "hub")}
		opt := h.options()
		opt.Parallel = rapid.IntRange(1, 3).Draw(rt, "parallel")
		opt.Retries = rapid.IntRange(-1, 4).Draw(rt, "retries")
		opt.Verify = rapid.Bool().Draw(rt, "verify")
		for range rapid.IntRange(1, 3).Draw(rt, "pulls") {
			h.forget()
			env.Endpoint = h.endpoint()
			for _, name := range names {
				faults := make([]fault, rapid.IntRange(0, 4).Draw(rt, "faults of "+name))
				for i := range faults {
					faults[i] = drawFault(rt, name)
				}
				h.script(name, func(attempt int) fault {
					if attempt <= len(faults) {
						return faults[attempt-1]
					}
					return fault{}
				})
			}
			ctx, die := context.WithCancelCause(context.Background())
			budget := rapid.Int64Range(0, 9000).Draw(rt, "dies at")
			opt.Observer.Bytes = func(_ string, have int64) {
				if have > budget {
					die(errDeath)
				}
			}
			p, err := Prepare(ctx, env, testModel, opt)
			if err == nil {
				_, err = p.Run(ctx)
			}
			die(nil)
			require.NoError(rt, h.unsound(env.CacheDir))
			if err == nil {
				require.NoError(rt, h.incomplete(p.Dir, names[1:]...))
			}
		}
		h.forget()
		env.Endpoint, opt.Observer.Bytes = h.endpoint(), nil
		dir, err := pull(env, opt)
		require.NoError(rt, err, "an honest server after the faults")
		require.NoError(rt, h.incomplete(dir, names[1:]...))
	})
}

var errDeath = errors.New("killed")
