package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
)

const pulledCommit = "0123456789abcdef0123456789abcdef01234567"

// modelServer serves a golden checkpoint as acme/small, all files through LFS.
func modelServer(t *testing.T) {
	t.Helper()
	dir := testdata + "goldens/qwen3-tied-gqa2"
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	type lfs struct {
		SHA256 string `json:"sha256"`
		Size   int    `json:"size"`
	}
	type sibling struct {
		Name string `json:"rfilename"`
		Size int    `json:"size"`
		LFS  lfs    `json:"lfs"`
	}
	var siblings []sibling
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		digest := sha256.Sum256(data)
		siblings = append(siblings, sibling{e.Name(), len(data), lfs{hex.EncodeToString(digest[:]), len(data)}})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/models/acme/small/revision/main" {
			json.NewEncoder(w).Encode(map[string]any{"sha": pulledCommit, "siblings": siblings})
			return
		}
		name, ok := strings.CutPrefix(r.URL.Path, "/acme/small/resolve/"+pulledCommit+"/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, filepath.Base(name)))
	}))
	t.Cleanup(server.Close)
	t.Setenv("HF_ENDPOINT", server.URL)
	for _, name := range []string{"HF_TOKEN", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HUGGINGFACE_HUB_CACHE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", t.TempDir())
	t.Setenv("HF_HUB_CACHE", filepath.Join(t.TempDir(), "hub"))
}

func TestPull(t *testing.T) {
	modelServer(t)
	r := run(t, "", "pull", "acme/small", "-dry-run")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Contains(t, r.stdout, "model.safetensors")
	require.NoDirExists(t, os.Getenv("HF_HUB_CACHE"), "a dry run wrote something")

	r = run(t, "", "pull", "acme/small")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	dir := lines[len(lines)-1]
	require.FileExists(t, filepath.Join(dir, "model.safetensors"))
	require.NotEmpty(t, r.stderr)

	// What was pulled can be named, inspected and verified.
	r = run(t, "", "inspect", "acme/small", "-json")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	r = run(t, "", "verify", "acme/small", testdata+"goldens/qwen3-tied-gqa2/golden.json")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	run(t, "", "inspect", "acme/smal").refused(t, cli.NotFound, "acme/small", "")

	r = run(t, "", "pull", "acme/small", "-q")
	require.Equal(t, ran{cli.OK, dir + "\n", ""}, r, "again, quietly")
}

func TestPullIntoAFolder(t *testing.T) {
	modelServer(t)
	dir := filepath.Join(t.TempDir(), "small")
	r := run(t, "", "pull", "-quiet", "acme/small", "-local-dir", dir)
	require.Equal(t, ran{cli.OK, dir + "\n", ""}, r)
	require.Equal(t, cli.OK, run(t, "", "inspect", dir, "-check").exit)
}

func TestPullRefused(t *testing.T) {
	modelServer(t)
	run(t, "", "pull", "acme/other").refused(t, cli.NotFound, "acme/other", "check the name")
	run(t, "", "pull", "acme/small", "-revision", "v9").refused(t, cli.NotFound, "v9", "")
	run(t, "", "pull", "../small").refused(t, cli.Usage, "../small", "owner/name")
	run(t, "", "pull").refused(t, cli.Usage, "0 arguments, want 1", "OWNER/NAME")
	t.Setenv("HF_HUB_OFFLINE", "1")
	run(t, "", "pull", "acme/small").refused(t, cli.Network, "offline", "HF_HUB_OFFLINE")
}

func TestPullInterrupted(t *testing.T) {
	modelServer(t)
	r := runWith(t, &App{Args: []string{"pull", "acme/small"}, Interrupts: func(ctx context.Context, _ ...os.Signal) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	}})
	require.Equal(t, cli.Interrupted, r.exit)
	require.Empty(t, r.stdout)
}
