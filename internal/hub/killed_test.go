package hub

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// childVariable makes the test program a pull of its own: endpoint, cache and folder, separated by newlines.
const childVariable = "HUB_TEST_PULL"

// runChild is the pull that TestKilled kills.
func runChild(arguments string) int {
	var env Env
	var opt Options
	if _, err := fmt.Sscanf(arguments, "%q %q %q", &env.Endpoint, &env.CacheDir, &opt.LocalDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	p, err := Prepare(context.Background(), env, testModel, opt)
	if err == nil {
		_, err = p.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A process that is killed in the middle of a file leaves nothing wrong and no lock, and the next one goes on.
func TestKilled(t *testing.T) {
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprintf("folder %t", local), func(t *testing.T) {
			h := newTestHub(t)
			h.files["model.safetensors"] = pattern(2<<20, 5)
			env, opt := h.env(), h.options()
			partial := filepath.Join(modelDir(env.CacheDir, testModel), "blobs", h.digest("model.safetensors")+".incomplete")
			if local {
				opt.LocalDir = filepath.Join(t.TempDir(), "model")
				partial = filepath.Join(opt.LocalDir, ".cache", "quire", h.digest("model.safetensors")+".incomplete")
			}
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			child := exec.CommandContext(ctx, os.Args[0])
			child.Env = append(os.Environ(), fmt.Sprintf("%s=%q %q %q", childVariable, h.URL, env.CacheDir, opt.LocalDir))
			dead := make(chan bool)
			f := cutBody(1 << 20)
			f.sent = func() {
				for !hasSize(partial, 1<<20) {
					if err := h.clock.Sleep(t.Context(), 0); err != nil {
						return
					}
				}
				kill()
				<-dead
			}
			h.fail("model.safetensors", 1, f)
			require.NoError(t, child.Start())
			require.Error(t, child.Wait(), "the child was to be killed")
			close(dead)
			require.FileExists(t, partial)
			h.requireSound(env)

			h.forget()
			dir, err := pull(env, opt)
			require.NoError(t, err)
			h.requireComplete(dir, "config.json", "tokenizer.json", "model.safetensors")
			require.Equal(t, fmt.Sprintf("bytes=%d-", 1<<20), h.seen("model.safetensors")[0].rangeHeader)
		})
	}
}
