package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// ReceiptsFile is the name of the receipts' file, beside the sources.
const ReceiptsFile = "TESTED.json"

// Receipt says that a set of images was tested on a GPU.
type Receipt struct {
	Images string  `json:"images"` // cuda.ImagesHash
	Commit string  `json:"commit"`
	Device string  `json:"device"`
	Driver string  `json:"driver"`
	Date   string  `json:"date"` // 2006-01-02
	Stages []Stage `json:"stages"`
	// Unfinished are those that ran out of time, with what had passed by then.
	Unfinished []Stage `json:"unfinished,omitempty"`
}

// Stage is a part of the tests, see test-gpu.sh.
type Stage struct {
	Name    string `json:"name"`
	Passed  int    `json:"passed"` // tests and subtests
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
	Exit    int    `json:"exit"`
}

// Good says whether everything that was run passed.
func (r Receipt) Good() bool {
	for _, s := range r.Unfinished {
		if s.Failed != 0 {
			return false
		}
	}
	return len(r.Stages) > 0 && !slices.ContainsFunc(r.Stages, func(s Stage) bool {
		return s.Exit != 0 || s.Failed != 0 || s.Passed == 0
	})
}

// Receipts are those in dir, oldest first. No file is none.
func Receipts(dir string) ([]Receipt, error) {
	text, err := os.ReadFile(filepath.Join(dir, ReceiptsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Receipt
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("build: reading %s: %w", ReceiptsFile, err)
	}
	return all, nil
}

// Tested says whether a receipt shows images with that hash to be good; finished, whether one that leaves nothing unfinished does.
func Tested(receipts []Receipt, images string) (tested, finished bool) {
	for _, r := range receipts {
		if r.Images == images && r.Good() {
			tested = true
			finished = finished || len(r.Unfinished) == 0
		}
	}
	return tested, finished
}

// AddReceipt appends a receipt to those in dir. One of the same images on the same device is replaced.
func AddReceipt(dir string, r Receipt) error {
	if !r.Good() {
		return fmt.Errorf("build: a receipt of %q: not everything passed: %+v", r.Device, r.Stages)
	}
	all, err := Receipts(dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(old Receipt) bool { return old.Images == r.Images && old.Device == r.Device })
	text, err := json.MarshalIndent(append(all, r), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ReceiptsFile), append(text, '\n'), 0o644)
}
