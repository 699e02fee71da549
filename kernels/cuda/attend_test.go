package cuda

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChooseAttend: the names of the kernels say what they are for.
func TestChooseAttend(t *testing.T) {
	types := map[int32]string{KVBF16: "bf16", KVF32: "f32", KVFP8: "fp8"}
	for kvType, typeName := range types {
		for headDim := 8; headDim <= MaxHeadDim; headDim += 8 {
			size := 64
			if headDim > 64 {
				size = 128
			}
			if headDim > 128 {
				size = 256
			}
			for group, queries := range map[int]int{1: 2, 2: 2, 3: 4, 4: 4, 5: 8, 8: 8, 9: 8, 200: 8} {
				got := ChooseAttend(group, headDim, kvType, false)
				wide := ChooseAttend(group, headDim, kvType, true)
				if headDim == 128 && kvType != KVF32 || headDim == 64 && kvType == KVBF16 {
					require.Equal(t, fmt.Sprintf("attend_decode_%s_d%d", typeName, size), wide.Decode.String())
					require.Equal(t, 8, wide.DecodeQueries)
					require.True(t, wide.Merges)
					wide.Decode, wide.DecodeQueries, wide.Merges = got.Decode, got.DecodeQueries, false
				}
				require.Equal(t, got, wide)
				if kvType == KVF32 {
					queries = 4
				}
				require.Equal(t, fmt.Sprintf("attend_decode_q%d_%s_d%d", queries, typeName, size), got.Decode.String())
				require.Equal(t, queries, got.DecodeQueries)
				require.Equal(t, kvType == KVF32, got.OnlyDecode)
				if !got.OnlyDecode {
					require.Equal(t, fmt.Sprintf("attend_prefill_%s_d%d", typeName, size), got.Prefill.String())
				}
			}
		}
	}
	for k := range Kernel(Kernels) {
		if strings.HasPrefix(k.String(), "attend_prefill") {
			require.Positive(t, k.SharedBytes(), k)
		}
	}
}
