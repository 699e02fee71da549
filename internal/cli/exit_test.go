package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

func TestTell(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		exit Exit
		says []string
	}{
		{"nothing", nil, OK, nil},
		{"usage", UsageError("try this", "bad %q", "x"), Usage, []string{`error: bad "x"`, "hint: try this"}},
		{"usage wrapped", fmt.Errorf("run: %w", UsageError("try this", "bad")), Usage, []string{"error: run: bad", "hint: try this"}},
		{"interrupted", fmt.Errorf("generating: %w", context.Canceled), Interrupted, nil},
		{"not found", &model.NotFoundError{Name: "tniy", Nearest: []string{"tiny"}}, NotFound, []string{"tiny", "hint: "}},
		{"unsupported", &model.UnsupportedError{File: "config.json", What: "architecture", Found: "GPT2", Supported: []string{"A", "B"}}, BadModel, []string{"GPT2", "A, B", "hint: use a Qwen3"}},
		{"damaged", &model.InvalidError{File: "x", Problems: []error{errors.New("cut off")}, Advice: "pull again"}, BadModel, []string{"cut off", "hint: pull again"}},
		{"damaged by something unsupported", &model.InvalidError{File: "x", Problems: []error{&model.UnsupportedError{}}}, BadModel, nil},
		{"too long", &engine.ContextLengthError{PromptTokens: 5, Context: 4}, Usage, []string{"maximum context length is 4 tokens", "--max-tokens"}},
		{"invalid request", fmt.Errorf("%w: temperature", engine.ErrInvalid), Usage, []string{"temperature"}},
		{"no memory", fmt.Errorf("%w: 9 GiB", engine.ErrNoMemory), NoMemory, []string{"9 GiB"}},
		{"pool too small", fmt.Errorf("x: %w", kvcache.ErrTooLong), NoMemory, []string{"--cache-tokens"}},
		{"device memory", kernels.ErrNoMemory, NoMemory, nil},
		{"unsupported device", fmt.Errorf("no cuda: %w", errors.ErrUnsupported), Usage, nil},
		{"offline", hub.ErrOffline, Network, nil},
		{"gated", hub.ErrAccess, Network, []string{"HF_TOKEN"}},
		{"no such repository", hub.ErrNotFound, NotFound, nil},
		{"port", syscall.EADDRINUSE, Address, nil},
		{"missing file", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, Failed, nil},
		{"several", errors.Join(errors.New("one"), errors.New("two")), Failed, []string{"error: one; two\n"}},
		{"anything else", errors.New("odd"), Failed, []string{"error: odd\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, c.exit, Tell(&out, c.err), out.String())
			for _, s := range c.says {
				require.Contains(t, out.String(), s)
			}
			if c.exit == OK || c.exit == Interrupted {
				require.Empty(t, out.String())
				return
			}
			require.Equal(t, 2, strings.Count(out.String(), "\n"), "want two lines: %q", out.String())
			lines := strings.Split(out.String(), "\n")
			require.True(t, strings.HasPrefix(lines[0], "error: "))
			require.True(t, strings.HasPrefix(lines[1], "hint: "))
			require.Greater(t, len(lines[1]), len("hint: ")+3, "an empty hint")
		})
	}
}

func TestExitTableNamesEveryCode(t *testing.T) {
	table := ExitTable()
	for _, code := range []Exit{OK, Failed, Usage, NotFound, BadModel, NoMemory, Address, Network, Interrupted} {
		require.Regexp(t, fmt.Sprintf(`(?m)^ *%d  \S`, code), table)
	}
}
