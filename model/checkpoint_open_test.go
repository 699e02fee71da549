package model

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldens are the directories of testdata/goldens.
func goldens(t testing.TB) []string {
	dirs, err := filepath.Glob("testdata/goldens/*/config.json")
	require.NoError(t, err)
	require.Len(t, dirs, 12)
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

func TestOpenDirGoldens(t *testing.T) {
	revisions := map[[32]byte]string{}
	for _, dir := range append(goldens(t), "testdata/tiny-qwen3-plain", "tiny/qwen3") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, err := OpenDir(dir)
			require.NoError(t, err)
			require.Empty(t, revisions[c.Revision], "revision is shared")
			revisions[c.Revision] = dir
			var bytes int64
			for name, shape := range c.Config.Weights() {
				w, err := c.Weight(name, shape...)
				require.NoError(t, err)
				require.Equal(t, BF16, w.DType)
				require.Len(t, w.Data, 2*elements(shape))
				bytes += int64(len(w.Data))
			}
			require.Equal(t, c.WeightBytes(), bytes)
			require.Equal(t, 2*c.Parameters(), bytes)
			_, err = c.Files.Open("config.json")
			require.NoError(t, err)
			bad, err := c.CheckFinite(nil)
			require.NoError(t, err)
			require.Empty(t, bad)
			require.NoError(t, c.Close())
			require.NoError(t, c.Close())
			_, err = c.Weight("model.norm.weight", c.Config.Hidden)
			require.ErrorContains(t, err, "closed")
		})
	}
}

func TestRounding(t *testing.T) {
	for _, tt := range []struct{ dir, dtype string }{{"qwen3-f32-file", "F32"}, {"qwen3-f16-file", "F16"}} {
		t.Run(tt.dtype, func(t *testing.T) {
			c, err := OpenDir("testdata/goldens/" + tt.dir)
			require.NoError(t, err)
			defer c.Close()
			var lines []string
			c.Log = func(line string) { lines = append(lines, line) }
			for name, shape := range c.Config.Weights() {
				first, err := c.Weight(name, shape...)
				require.NoError(t, err)
				second, err := c.Weight(name, shape...)
				require.NoError(t, err)
				require.Same(t, &first.Data[0], &second.Data[0], "made twice")
			}
			require.Equal(t, []string{"model: weights stored as " + tt.dtype + " are rounded to bfloat16"}, lines)
		})
	}
}

// writeModel copies a golden to a directory that the test may change.
func writeModel(t testing.TB, golden string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/goldens/"+golden)))
	return dir
}
