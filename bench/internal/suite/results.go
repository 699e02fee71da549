package suite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// encodeRows is the text of a results file: an array of objects, indented by two as Python's json.dump does it.
func encodeRows(rows []any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if rows == nil {
		rows = []any{}
	}
	if err := encoder.Encode(rows); err != nil {
		return nil, fmt.Errorf("suite: encoding results: %w", err)
	}
	return text.Bytes(), nil
}

// writeFile replaces a file as a whole: a reader sees the old one or the new one, and nothing is left behind on failure.
func writeFile(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("suite: writing results: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
			err = fmt.Errorf("suite: writing results to %q: %w", path, err)
		}
	}()
	if _, err = file.Write(data); err != nil {
		return err
	}
	if err = file.Chmod(0o644); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// makeWritable makes a folder and proves that files can be written there, before anything is measured for one.
func makeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("suite: making the folder for results: %w", err)
	}
	probe, err := os.CreateTemp(dir, ".results.*")
	if err != nil {
		return fmt.Errorf("suite: writing results: %w", err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}
