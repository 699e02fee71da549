package operations

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// run runs the program at the shapes of the built-in model.
func run(t *testing.T, dir string, more ...string) (exit cli.Exit, stdout, stderr string) {
	var out, err bytes.Buffer
	args := []string{"-device", "cpu", "-shapes", "tiny", "-probe-mib", "8", "-probe-ms", "2", "-rotate-mib", "1", "-run-ms", "0.01", "-out", dir}
	exit = suite.ExecuteCommand(t.Context(), NewCommand(), append(args, more...), &out, &err)
	return exit, out.String(), err.String()
}

func TestTiny(t *testing.T) {
	dir := t.TempDir()
	exit, stdout, stderr := run(t, dir, "-rows", "1,3,600", "-contexts", "3x40", "-prompts", "2x20", "-kv", "bf16,int8,fp8", "-runs", "2")
	require.Equal(t, cli.OK, exit, stderr)
	require.Contains(t, stdout, "bound by")

	data, err := os.ReadFile(filepath.Join(dir, "results_kernels.json"))
	require.NoError(t, err)
	var rows []row
	require.NoError(t, json.Unmarshal(data, &rows))
	count := map[string]int{}
	for _, r := range rows {
		count[r.Op]++
		require.Equal(t, "tiny", r.Shape)
		require.Equal(t, 2, r.MicrosSpread.Count)
		require.Positive(t, r.Micros)
		require.Positive(t, r.Bytes)
		require.InDelta(t, r.LimitMicros/r.Micros, r.LimitShare, 1e-9)
		require.NotEmpty(t, r.Date)
		require.Equal(t, "cpu", r.Device)
	}
	require.Equal(t, map[string]int{"qkv": 3, "rope": 3, "decode": 2, "prefill": 2, "proj": 3, "gateup": 3, "down": 3, "mlp": 3, "head": 2, "sample": 2}, count,
		"the head has no 600 rows, and a CPU no float8")
}

// What must be read and computed, by hand.
func TestWork(t *testing.T) {
	config, err := configOf("qwen3-0.6b")
	require.NoError(t, err)
	r := &rig{config: config, activation: 2}
	qkv := r.products("qkv", 8)
	require.Equal(t, 2*1024*4096+8*2*(1024+4096), int(qkv.bytes))
	require.Equal(t, 2*8*1024*4096, int(qkv.operations))
	k := &cache{tokenBytes: 4096}
	decode := r.attend("decode", 256, 1024, 1, k)
	require.Equal(t, 256*1024*4096+2*2*256*2048, int(decode.bytes))
	require.Equal(t, 4*256*1024*2048, int(decode.operations))
	prefill := r.attend("prefill", 1, 4, 4, k)
	require.Equal(t, 4*(1+2+3+4)*2048, int(prefill.operations), "a row sees what stands before it, and itself")
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"operation", []string{"-ops", "qkv,norm"}, `no operation "norm"`},
		{"context", []string{"-contexts", "64"}, `"64" is not like 64x4096`},
		{"rows", []string{"-rows", "0"}, "--rows must be at least 1, got 0"},
		{"kv", []string{"-kv", "int4"}, `no KV type "int4"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			exit, _, stderr := run(t, t.TempDir(), c.args...)
			require.Equal(t, cli.Usage, exit)
			require.Contains(t, stderr, c.want)
		})
	}
}
