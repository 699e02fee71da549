package cuda

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda/internal/build"
)

// TestManifest: the embedded images were made of the sources beside them.
func TestManifest(t *testing.T) {
	require.NoError(t, build.Check("."))
}

// TestKernels: the images have the entry points that the launches name and no others, and these take structs of the size that
// Go packs.
func TestKernels(t *testing.T) {
	m, err := build.Read(".")
	require.NoError(t, err)
	type entry struct {
		image       string
		name        string
		paramsBytes int
	}
	var got, want []entry
	for _, image := range m.Images {
		ptx, err := Image(image.Name, Compute80)
		require.NoError(t, err)
		require.Zero(t, ptx[len(ptx)-1], "PTX ends with a zero byte")
		for name, bytes := range build.Entries(ptx) {
			got = append(got, entry{image.Name, name, bytes})
		}
	}
	for k := range Kernel(Kernels) {
		want = append(want, entry{k.Image(), k.String(), k.ParamsBytes()})
	}
	require.ElementsMatch(t, want, got)
}

// TestResources: no kernel keeps registers in memory, but for those where it does not matter, and none takes more shared
// memory than a block may have on any device from 8.0 on, but for those that something else stands in for.
func TestResources(t *testing.T) {
	const mostShared, mostSharedOn80, mostSharedOn90 = 99 << 10, 163 << 10, 227 << 10
	spills := map[Kernel]string{
		AttendSimpleBF16: "only tests launch it",
		SamplePick:       "outside its loops over the vocabulary",
	}
	m, err := build.Read(".")
	require.NoError(t, err)
	kernels := map[string]build.Kernel{}
	for _, image := range m.Images {
		for _, k := range image.Outputs[0].Kernels {
			kernels[k.Name] = k
		}
	}
	for k := range Kernel(Kernels) {
		needs, ok := kernels[k.String()]
		require.True(t, ok, "%s is not in the manifest", k)
		if spills[k] == "" {
			require.Zero(t, needs.SpillBytes, "%s spills registers", k)
		}
		most := mostShared
		switch k {
		case AttendPrefillBF16D256, AttendPrefillFP8D256: // on 8.6 and 8.9 the decode kernels take all rows
			most = mostSharedOn80
		case AttendDecodeBF16D64, AttendDecodeBF16D128, AttendDecodeFP8D128: // and those without tensor cores their rows
			most = mostSharedOn80
		}
		if gemvOf(k) != nil {
			most = mostSharedOn80 // on 8.6 and 8.9 gemm_small takes the products that do not fit
		}
		if wideTilesOf(k) != nil {
			most = mostSharedOn90 // for that machine code only
		}
		require.LessOrEqual(t, needs.SharedBytes+k.SharedBytes(), most, "%s", k)
	}
}

func TestImage(t *testing.T) {
	image, err := Image("norm", SM90a)
	require.NoError(t, err)
	require.Equal(t, "\x7fELF", string(image[:4]))
	_, err = Image("no such", SM90a)
	require.ErrorContains(t, err, `no image "no such" for sm_90a`)
}

// TestLayouts: Go lays the structs out as C does.
func TestLayouts(t *testing.T) {
	for _, c := range layoutChecks() {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, c.got, c.want)
		}
	}
}
