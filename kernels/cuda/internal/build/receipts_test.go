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
	short := good
	short.Images, short.Unfinished = "c", []Stage{{Name: "soak", Exit: 124}}
	require.NoError(t, AddReceipt(dir, short))
	short.Unfinished[0].Failed = 1
	require.ErrorContains(t, AddReceipt(dir, short), "not everything passed")
	all, err = Receipts(dir)
	require.NoError(t, err)
	for images, want := range map[string][2]bool{"a": {true, true}, "b": {false, false}, "c": {true, false}} {
		tested, finished := Tested(all, images)
		require.Equal(t, want, [2]bool{tested, finished}, images)
	}
}
