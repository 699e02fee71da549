package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
)

// verified runs verify with JSON output.
func verified(t *testing.T, args ...string) (ran, []passReport) {
	t.Helper()
	r := run(t, "", append([]string{"verify", "-json"}, args...)...)
	var out struct{ Passes []passReport }
	if r.stdout != "" {
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &out))
	}
	return r, out.Passes
}

// TestGoldens: everything in model/testdata passes, and what passes has been compared.
func TestGoldens(t *testing.T) {
	entries, err := os.ReadDir(testdata + "goldens")
	require.NoError(t, err)
	models := [][2]string{
		{"tiny", testdata + "tiny-golden.json"},
		{testdata + "tiny-qwen3-plain", testdata + "tiny-qwen3-plain/golden.json"},
	}
	goldens := 0
	for _, entry := range entries {
		if dir := testdata + "goldens/" + entry.Name(); entry.IsDir() {
			goldens++
			models = append(models, [2]string{dir, dir + "/golden.json"})
		}
	}
	require.Equal(t, 12, goldens)
	for _, m := range models {
		t.Run(filepath.Base(m[0]), func(t *testing.T) {
			r, passes := verified(t, m[0], m[1])
			require.Equal(t, cli.OK, r.exit, r.stderr)
			require.Len(t, passes, 2)
			exact, bf16 := passes[0], passes[1]
			require.True(t, exact.Judged)
			require.True(t, exact.Passed)
			require.GreaterOrEqual(t, exact.Report.ComparedShare(), 0.8)
			require.Less(t, exact.Report.Max, 1e-3)
			require.Positive(t, exact.Report.Positions)
			require.Positive(t, exact.Report.GreedyCompared)
			require.NotZero(t, bf16.Report.Mean, "the bf16 cache rounds")
			require.Greater(t, bf16.Report.Mean, exact.Report.Mean)
			positions := 0
			for _, c := range exact.Cases {
				positions += c.Positions
				require.Zero(t, c.Mismatches)
			}
			require.Equal(t, exact.Report.Positions, positions)
		})
	}
}

// TestWrongReferences: verify must refuse a model that is not the reference's, and a reference that is not the model's.
func TestWrongReferences(t *testing.T) {
	const weights = "model.safetensors"
	for _, c := range []struct {
		name   string
		golden string
		change func(t *testing.T, dir string)
	}{
		{"rope_theta doubled", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editJSON(t, filepath.Join(dir, "config.json"), func(c map[string]any) {
				rope := c["rope_parameters"].(map[string]any)
				rope["rope_theta"] = 2 * rope["rope_theta"].(float64)
			})
		}},
		{"q_norm dropped", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editTensor(t, filepath.Join(dir, weights), "model.layers.0.self_attn.q_norm.weight", setBF16(1))
		}},
		{"a weight byte", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editTensor(t, filepath.Join(dir, weights), "model.layers.1.mlp.gate_proj.weight", func(data []byte) { data[101] ^= 1 << 7 })
		}},
		{"a byte of another weight", "llama-gqa4", func(t *testing.T, dir string) {
			editTensor(t, filepath.Join(dir, weights), "model.layers.0.self_attn.v_proj.weight", func(data []byte) { data[33] ^= 1 })
		}},
		{"a prompt token", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editCase(t, dir, func(c map[string]any) {
				ids := c["token_ids"].([]any)
				ids[20] = float64((int(ids[20].(float64)) + 1) % 100)
			})
		}},
		{"a token of the continuation", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editCase(t, dir, func(c map[string]any) {
				ids := c["greedy_token_ids"].([]any)
				ids[10] = float64((int(ids[10].(float64)) + 1) % 100)
			})
		}},
		{"a log-probability", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editCase(t, dir, func(c map[string]any) {
				logprobs := c["prompt_logprobs"].([]any)
				logprobs[30] = logprobs[30].(float64) + 0.02
			})
		}},
		{"a logit", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editCase(t, dir, func(c map[string]any) {
				top := c["last_logits_top8"].([]any)[3].([]any)
				top[1] = top[1].(float64) + 0.02
			})
		}},
		{"margins too small to compare anything", "qwen3-tied-gqa2", func(t *testing.T, dir string) {
			editJSON(t, filepath.Join(dir, "golden.json"), func(file map[string]any) {
				for _, c := range file["cases"].([]any) {
					margins := c.(map[string]any)["greedy_top1_margin"].([]any)
					for i := range margins {
						margins[i] = 0.0
					}
				}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyGolden(t, c.golden)
			golden := filepath.Join(dir, "golden.json")
			require.Equal(t, cli.OK, run(t, "", "verify", dir, golden).exit, "the unchanged one passes")
			c.change(t, dir)
			r := run(t, "", "verify", dir, golden)
			require.Equal(t, cli.Failed, r.exit, r.stdout)
			require.Contains(t, r.stdout, "FAILED")
			r.told(t, "does not compute what the reference computed", "config.json")
		})
	}
}

// With a recorded bfloat16 run the bf16 pass is judged, and a wrong model fails it by itself.
func TestBF16PassIsJudged(t *testing.T) {
	golden := testdata + "tiny-golden.json"
	r, passes := verified(t, "tiny", golden, "-kv", "bf16")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Len(t, passes, 1)
	require.True(t, passes[0].Judged)
	require.True(t, passes[0].Passed)

	r, passes = verified(t, testdata+"tiny-qwen3-plain", golden, "-kv", "bf16")
	require.Equal(t, cli.Failed, r.exit)
	require.False(t, passes[0].Passed)
	require.NotEmpty(t, passes[0].Report.Failures)
}

func TestToleranceIsTheUsers(t *testing.T) {
	golden := testdata + "tiny-golden.json"
	require.Equal(t, cli.OK, run(t, "", "verify", "tiny", golden, "-kv=f32", "-tolerance", "0.0001").exit)
	require.Equal(t, cli.Failed, run(t, "", "verify", "tiny", golden, "-kv=f32", "-tolerance", "1e-9").exit)
}

func TestVerifyPrintsATable(t *testing.T) {
	r := run(t, "", "verify", "tiny", testdata+"tiny-golden.json")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Regexp(t, `(?m)^ +case +prompt +output +positions +mean +p99 +max +logits max +argmax compared +wrong$`, r.stdout)
	require.Regexp(t, `(?m)^ +0 +35 +26 +60 +\S+ +\S+ +\S+ +\S+ +26/26 +0$`, r.stdout)
	require.Regexp(t, `(?m)^ +all +180 +1190 `, r.stdout)
	require.Contains(t, r.stdout, "passed: 1370 positions compared, 100 % of the continuations")
}

// TestVerifyInt8: both passes are judged by the limits of int8, and say how they stand beside bf16's. A wrong model fails.
func TestVerifyInt8(t *testing.T) {
	golden := testdata + "tiny-golden.json"
	r, passes := verified(t, "tiny", golden, "-weights", "int8")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Len(t, passes, 2)
	for _, p := range passes {
		require.Equal(t, "int8", p.Weights)
		require.True(t, p.Judged)
		require.True(t, p.Passed)
		require.True(t, p.WithinBF16)
		require.Greater(t, p.Report.Mean, 0.001, "int8 must show")
		require.Zero(t, p.Report.GreedyFlipped)
	}
	r = run(t, "", "verify", "tiny", golden, "-weights", "int8")
	require.Contains(t, r.stdout, "of the reference's own bfloat16 run: within the limits of bf16")

	r, passes = verified(t, testdata+"tiny-qwen3-plain", golden, "-weights", "int8")
	require.Equal(t, cli.Failed, r.exit)
	require.False(t, passes[0].Passed)
	require.False(t, passes[0].WithinBF16)

	dir := copyGolden(t, "qwen3-tied-gqa2") // its golden file records no bfloat16 run
	r, passes = verified(t, dir, filepath.Join(dir, "golden.json"), "-weights", "int8", "-kv", "f32")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.False(t, passes[0].Judged)
	require.Equal(t, cli.Usage, run(t, "", "verify", "tiny", golden, "-weights", "int3").exit)
}
