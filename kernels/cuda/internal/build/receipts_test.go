package build

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReceipts(t *testing.T) {
	dir := t.TempDir()
	none, err := Receipts(dir)
	require.NoError(t, err)
	require.Empty(t, none)
	good := Receipt{Images: "a", Device: "one", Date: "2026-01-01", Stages: []Stage{{Name: "kernels", Passed: 3}}}
	require.NoError(t, AddReceipt(dir, good))
	for name, stages := range map[string][]Stage{
		"nothing run":    nil,
		"nothing passed": {{Name: "kernels"}},
		"one failed":     {{Name: "kernels", Passed: 3, Failed: 1}},
		"exit code":      {{Name: "kernels", Passed: 3}, {Name: "memcheck", Passed: 3, Exit: 9}},
	} {
		bad := good
		bad.Images, bad.Stages = "b", stages
		require.ErrorContains(t, AddReceipt(dir, bad), "not everything passed", name)
	}
	again := good
	again.Date = "2026-01-02"
	require.NoError(t, AddReceipt(dir, again))
	other := good
	other.Device = "two"
	require.NoError(t, AddReceipt(dir, other))
	all, err := Receipts(dir)
	require.NoError(t, err)
	require.Equal(t, []Receipt{again, other}, all)
	require.True(t, Tested(all, "a"))
	require.False(t, Tested(all, "b"))
}
