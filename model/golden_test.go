package model

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/golden"
	"github.com/quire-llm/quire/kernels"
)

// reference is a checkpoint and its golden file.
type reference struct{ dir, file string }

func (r reference) name() string { return filepath.Base(r.dir) }

// references are all checkpoints that come with a golden file.
func references(t testing.TB) []reference {
	refs := []reference{
		{"tiny/qwen3", "testdata/tiny-golden.json"},
		{"testdata/tiny-qwen3-plain", "testdata/tiny-qwen3-plain/golden.json"},
	}
	for _, dir := range goldens(t) {
		refs = append(refs, reference{dir, filepath.Join(dir, "golden.json")})
	}
	return refs
}

// openGolden opens a golden file; with -short only two cases of one with long prompts.
func openGolden(t testing.TB, path string) *golden.File {
	f, err := golden.Open(path)
	require.NoError(t, err)
	if testing.Short() && len(f.Cases) > 4 {
		f.Cases = f.Cases[:2]
	}
	return f
}

// openReference opens a checkpoint to be computed as its golden file was.
func openReference(t testing.TB, ref reference, file *golden.File) *Checkpoint {
	ck := openCheckpoint(t, ref.dir)
	ck.Config.Rope.BF16Frequencies = file.RoundedRope
	return ck
}

// bf16Tolerance is golden.BF16. For a checkpoint whose golden file does not record how far the reference's own bfloat16 run
// is off it takes that from a file beside it. These are random models, of which the reference itself flips up to 4 of 92
// leads: one in fifty is allowed.
func bf16Tolerance(t testing.TB, ref reference, file *golden.File) golden.Tolerance {
	if file.BF16Error.Mean > 0 {
		tol := golden.BF16(file)
		tol.Flips = 0 // nothing flips on the CPU
		return tol
	}
	var recorded struct{ Errors map[string]golden.Error }
	data, err := os.ReadFile("testdata/goldens/bf16.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &recorded))
	require.Contains(t, recorded.Errors, ref.name())
	tol := golden.BF16(&golden.File{BF16Error: recorded.Errors[ref.name()]})
	tol.Flips, tol.Always = 0.02, 0
	return tol
}

// observeAll runs every case of a file alone, each in one step.
func (r *rig) observeAll(f *golden.File) [][]outcome {
	var all [][]outcome
	for _, c := range f.Cases {
		all = append(all, r.run([][]int32{sequence(c)}, whole)[0])
	}
	return all
}

func compare(f *golden.File, outcomes [][]outcome, tol golden.Tolerance) golden.Report {
	var cases []golden.CaseReport
	for i, c := range f.Cases {
		cases = append(cases, golden.Compare(c, observed(c, outcomes[i]), tol))
	}
	return golden.Summarize(cases, tol)
}

// TestGoldens compares every checkpoint with the reference, on every kernel set, and demands the same bits however the
// sequences are cut into steps and whatever runs beside them. With -short the latter is for short sequences.
func TestGoldens(t *testing.T) {
	devices := kernelSets(t)
	for _, ref := range references(t) {
		t.Run(ref.name(), func(t *testing.T) {
			file := openGolden(t, ref.file)
			ck := openReference(t, ref, file)
			var sequences [][]int32
			for _, c := range file.Cases {
				sequences = append(sequences, sequence(c))
			}
			for _, set := range slices.Sorted(maps.Keys(devices)) {
				t.Run("kernels="+set, func(t *testing.T) {
					slow := set == "go" && ck.Config.Vocab > 1000
					if slow && testing.Short() && len(devices) > 1 {
						t.Skip("plain Go over a trained model is for the long run")
					}
					r := newRig(t, devices[set], ck, kernels.KVF32)
					together := r.run(sequences, ragged)
					tol := golden.Float32()
					if devices[set].Info().Products == "bf16" {
						tol = bf16Tolerance(t, ref, file)
					}
					report := compare(file, together, tol)
					t.Log(report)
					require.NoError(t, report.Err())
					if slow {
						return // the small checkpoints show as well that bits do not depend on the cut
					}
					for i, tokens := range sequences {
						if testing.Short() && len(tokens) > 100 {
							continue
						}
						for name, cut := range map[string]func(int, int) int{"in one step": whole, "token by token": oneByOne, "in ragged chunks": ragged} {
							require.Equal(t, together[i:i+1], r.run([][]int32{tokens}, cut), "case %d alone, %s", i, name)
						}
					}
				})
			}
		})
	}
}

// TestGoldensBF16 keeps keys and values in bfloat16 and bounds the error by that of the reference's own bfloat16 run.
func TestGoldensBF16(t *testing.T) {
	device := openDevice(t)
	for _, ref := range references(t) {
		t.Run(ref.name(), func(t *testing.T) {
			file := openGolden(t, ref.file)
			r := newRig(t, device, openReference(t, ref, file), kernels.KVBF16)
			alone := r.observeAll(file)
			tol := bf16Tolerance(t, ref, file)
			report := compare(file, alone, tol)
			t.Logf("%v (limits: mean %.3g, p99 %.3g)", report, tol.Mean, tol.P99)
			require.NoError(t, report.Err())
			require.NotZero(t, report.Mean, "rounding keys and values must show")
			require.NotZero(t, tol.Mean)
		})
	}
}

// TestWrongReferences shows that the comparison fails where something is wrong, on a reference that it agrees with.
func TestWrongReferences(t *testing.T) {
	const dir = "testdata/goldens/qwen3-tied-gqa2"
	device := openFloat32(t)
	tests := []struct {
		name   string
		before func(*Checkpoint)  // the checkpoint is loaded
		loaded func(*Model)       // it runs
		file   func(*golden.File) // it is compared
	}{
		{name: "rope_theta doubled", before: func(ck *Checkpoint) { ck.Config.Rope.Theta *= 2 }},
		{name: "frequencies rounded", before: func(ck *Checkpoint) { ck.Config.Rope.BF16Frequencies = true }},
		{name: "q_norm dropped", loaded: func(m *Model) {
			for i := range m.Layers {
				m.Layers[i].QNorm = kernels.Buffer{}
			}
		}},
		{name: "q_norm of one layer dropped", loaded: func(m *Model) { m.Layers[1].QNorm = kernels.Buffer{} }},
		{name: "q_norm and k_norm exchanged", loaded: func(m *Model) {
			l := &m.Layers[0]
			l.QNorm, l.KNorm = l.KNorm, l.QNorm
		}},
		{name: "norm epsilon", before: func(ck *Checkpoint) { ck.Config.NormEps = 1e-3 }},
		{name: "one byte of a projection", before: func(ck *Checkpoint) { flipByte(ck, "model.layers.0.self_attn.o_proj.weight", 4321) }},
		{name: "one byte of an embedding", before: func(ck *Checkpoint) { flipByte(ck, "model.embed_tokens.weight", 2*64*137+1) }},
		{name: "one byte of the last norm", before: func(ck *Checkpoint) { flipByte(ck, "model.norm.weight", 10) }},
		{name: "a prompt token", file: func(f *golden.File) { f.Cases[2].Tokens[40]++ }},
		{name: "a token of the continuation", file: func(f *golden.File) { f.Cases[1].Greedy[3]++ }},
		{name: "a log-probability + 0.02", file: func(f *golden.File) { f.Cases[3].PromptLogprobs[250] += 0.02 }},
		{name: "a log-probability - 0.02", file: func(f *golden.File) { f.Cases[1].PromptLogprobs[6] -= 0.02 }},
		{name: "a logit", file: func(f *golden.File) { f.Cases[0].Top[7].Logit += 0.01 }},
	}
	observe := func(t *testing.T, before func(*Checkpoint), loaded func(*Model), change func(*golden.File)) golden.Report {
		file := openGolden(t, filepath.Join(dir, "golden.json"))
		ck := openCheckpoint(t, dir)
		if before != nil {
			before(ck)
		}
		r := newRig(t, device, ck, kernels.KVF32)
		if loaded != nil {
			loaded(r.model)
		}
		if change != nil {
			change(file)
		}
		return compare(file, r.observeAll(file), golden.Float32())
	}
	require.NoError(t, observe(t, nil, nil, nil).Err())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := observe(t, tt.before, tt.loaded, tt.file)
			t.Log(report)
			require.False(t, report.Passed())
		})
	}
}

// flipByte inverts one byte of a tensor, in a copy.
func flipByte(ck *Checkpoint, name string, at int) {
	tensor := ck.tensors[name]
	tensor.Data = slices.Clone(tensor.Data)
	tensor.Data[at] ^= 0xff
	ck.tensors[name] = tensor
}
