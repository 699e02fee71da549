package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/internal/sysinfo"
)

func TestDoctor(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("HF_HUB_CACHE", filepath.Join(t.TempDir(), "not", "there"))
	r := run(t, "", "doctor", "-json")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	var findings []finding
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &findings))
	bySubject := map[string]finding{}
	for _, f := range findings {
		bySubject[f.Subject] = f
		require.NotEmpty(t, f.Text, f.Subject)
		require.Equal(t, f.Status == "ok", f.Advice == "", "%s: advice is for what is not ok", f.Subject)
	}
	require.Len(t, bySubject, 7)
	require.Contains(t, bySubject["cpu"].Text, "kernels in use: ")
	require.Regexp(t, `reads \d+ GB/s`, bySubject["memory"].Text)
	require.Contains(t, bySubject["cache"].Text, ": 0 models")
	require.Contains(t, bySubject["model"].Advice, "quire pull")
	require.Contains(t, bySubject["engine"].Text, "tiny solves a sum")
	require.NoDirExists(t, os.Getenv("HF_HUB_CACHE"), "doctor changes nothing")
}

func TestDoctorOnGPUs(t *testing.T) {
	for _, c := range []struct {
		name string
		gpu  sysinfo.GPU
		says string
	}{
		{"none", sysinfo.GPU{}, "no NVIDIA GPU"},
		{"library alone", sysinfo.GPU{Library: "/usr/lib64/libcuda.so.1"}, "no driver is loaded"},
		{"driver alone", sysinfo.GPU{Names: []string{"NVIDIA H100"}, Driver: "580.1"}, "NVIDIA H100; driver 580.1"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Contains(t, examineGPU(c.gpu).Text, c.says) })
	}
	require.Contains(t, examineGPU(sysinfo.GPU{Names: []string{"NVIDIA H100"}, Driver: "580.1"}).Advice, "libcuda.so.1 was not found")
}

func TestDoctorOnCaches(t *testing.T) {
	require.Contains(t, examineCache(hub.Env{})[0].Advice, "HF_HOME")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, f := range examineCache(hub.Env{CacheDir: file}) {
		if f.Subject == "cache" {
			require.NotEmpty(t, f.Text)
		}
	}
}

func TestFindingsTable(t *testing.T) {
	var out = new(errWriter)
	require.NoError(t, writeFindings(out, []finding{found("cpu", "fast"), found("gpu", "none").but("buy one"), found("engine", "wrong").failed("report it")}))
	require.Equal(t, "ok      cpu     fast\nadvice  gpu     none\n                → buy one\nFAILED  engine  wrong\n                → report it\n", out.text)
	out.err = errors.New("full")
	require.ErrorContains(t, writeFindings(out, []finding{found("cpu", "fast")}), "full")
}

// errWriter keeps what is written, or refuses it.
type errWriter struct {
	text string
	err  error
}

func (w *errWriter) Write(p []byte) (int, error) {
	w.text += string(p)
	return len(p), w.err
}
