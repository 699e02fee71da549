package model

import (
	"maps"
	"slices"
	"testing"


	"github.com/quire-llm/quire/internal/golden"
	"github.com/quire-llm/quire/kernels"
)

// TestGoldensInt8 bounds the error of weights in int8, keys and values exact and in bfloat16.
func TestGoldensInt8(t *testing.T) {
	devices := kernelSets(t)
	for _, ref := range references(t) {
		t.Run(ref.name(), func(t *testing.T) {
			file := openGolden(t, ref.file)
			ck := openReference(t, ref, file)
			tol := bf16Tolerance(t, ref, file)
			for _, kv := range []kernels.KVType{kernels.KVF32, kernels.KVBF16} {
				r := newRigWith(t, openDevice(t), ck, kv, kernels.Int8)
				report := compare(file, r.observeAll(file), golden.Tolerance{Margin: tol.Margin, Compared: 0.8})
				t.Logf("%s: %v (bf16: mean %.3g, p99 %.3g)", kv, report, tol.Mean/1.25, tol.P99/1.5)
			}
			_ = slices.Sorted(maps.Keys(devices))
		})
	}
}
