package figures

import (
	"bytes"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// The table, from a few rows of which the arithmetic is easy.
func TestTable(t *testing.T) {
	r, err := read(fstest.MapFS{
		"decode.json": {Data: []byte(`[{"workload":"grid","model":"synthetic:qwen3-0.6b","batch":1,"input":128,"output":256,"variant":"standard","total_output_tokens":256,
			"time_seconds":0.2,"throughput_tokens_per_sec":1280,"decode_tokens_per_sec":1300,"roof_read_bytes_per_sec":4e12,"roof_bf16_per_sec":8e14,
			"decode":{"seconds":0.2,"tokens":255,"bytes":4e11,"operations":1e12},"device_name":"GPU","driver":"driver 1","images":"abc"}]`)},
		"alone.json": {Data: []byte(`[{"workload":"grid","model":"synthetic:qwen3-0.6b","batch":64,"variant":"cascade","versus":{"variant":"standard","speedup":{"p50":0.8,"min":0.5,"max":1}}}]`)},
		"shared_long.json": {Data: []byte(`[{"workload":"shared","model":"synthetic:qwen3-0.6b","batch":64,"prefix":8192,"input":64,"variant":"standard","decode_tokens_per_sec":1000},
			{"workload":"shared","model":"synthetic:qwen3-0.6b","batch":64,"prefix":8192,"input":64,"variant":"cascade","decode_tokens_per_sec":6500}]`)},
		"models.json":  {Data: []byte(`[{"workload":"grid","model":"synthetic:qwen3-8b","batch":8,"input":128,"output":128,"throughput_tokens_per_sec":900,"decode":{"tokens":5}}]`)},
		"kernels.json": {Data: []byte(`[{"shape":"qwen3-0.6b","op":"decode","sequences":64,"context":4096,"kv":"bf16","us":300,"bytes_per_sec":3.6e12,"share_of_read":0.9}]`)},
		"start.json":   {Data: []byte(`[{"first_token_seconds":{"p50":0.5,"min":0.4,"max":0.6}}]`)},
	})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, r.print(&out))
	for _, want := range []string{
		"One GPU, driver 1, commit , images abc: memory reads 4.00 TB/s and the tensor cores do 800 TFLOP/s",
		"| decode, 1 request (128 in, 256 out) | 489 | 1,200 | 1,600 | 1,280 tok/s; 1,300 while decoding | 2,550 decoding | 50 % |",
		"| nothing shared, 64 requests: cascade against standard |  | 2 % | 0.5 % | +25.0 % time (+0.0 to +100.0) |  |  |",
		"| its decoding against standard |  | 5 x | 8 x | 6.50 x |  |  |",
		"| decode attention, 64 x 4096, bf16 |  | 75 % | 88 % | 300.0 µs, 3.60 TB/s |  | 90 % of reading |",
		"| process start to first token, file in the page cache | 27 s | 3 s | 1 s | 0.50 s (0.40 to 0.60) |  |  |",
		"| qwen3-8b | 8 of 128 in, 128 out | 900 | 0 | 0 |  |",
	} {
		require.Contains(t, out.String(), want)
	}
}

func TestRefused(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Usage, suite.ExecuteCommand(t.Context(), NewCommand(), []string{t.TempDir()}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "holds no results")
	_, err := read(fstest.MapFS{"start.json": {Data: []byte("{")}})
	require.ErrorContains(t, err, "start.json")
}
