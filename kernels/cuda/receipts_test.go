package cuda

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels/cuda/internal/build"
)

// TestResultsHaveReceipts: no figure of a GPU is published that was measured with kernels of which no run of the tests is on
// record.
func TestResultsHaveReceipts(t *testing.T) {
	receipts, err := build.Receipts(".")
	require.NoError(t, err)
	files := 0
	err = filepath.WalkDir("../../bench/results", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var rows []struct {
			Device string `json:"device"`
			Images string `json:"images"`
		}
		if json.Unmarshal(text, &rows) != nil {
			return nil // not rows of a benchmark
		}
		files++
		for i, r := range rows {
			if tested, _ := build.Tested(receipts, r.Images); r.Device == "cuda" && !tested {
				t.Errorf("%s, row %d: measured with images %q, of which %s has no good receipt", path, i, r.Images, build.ReceiptsFile)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, files)
}
