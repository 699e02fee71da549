package model

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenDir opens the model in a directory: config.json, generation_config.json if there is one, and safetensors, whose
// headers are checked against the config. The weights are mapped, not read. A directory that is not there is a
// NotFoundError; others are UnsupportedError, InvalidError, or the system's.
func OpenDir(path string) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Name: path, Where: "there is no such directory"}
	}
	if err != nil {
		return nil, fmt.Errorf("model: opening a directory: %w", err)
	}
	if !info.IsDir() {
		if err := refuseFormat(path); err != nil {
			return nil, err
		}
		e := invalid(path, "a file, want the model's directory")
		e.Advice = "give the directory that holds config.json and the .safetensors files"
		return nil, e
	}
	c := &Checkpoint{Name: path, Path: path, Files: os.DirFS(path)}
	if err := c.readConfig(); err != nil {
		return nil, err
	}
	weights, err := openWeights(path)
	if err != nil {
		return nil, err
	}
	c.tensors, c.close, c.mapped = weights.tensors, weights.close, true
	if err := c.CheckShapes(); err != nil {
		c.Close()
		return nil, err
	}
	c.Revision = c.revision()
	return c, nil
}

func (c *Checkpoint) readConfig() error {
	configFile := filepath.Join(c.Path, "config.json")
	if !exists(configFile) {
		if err := noWeights(c.Path); errors.Is(err, errors.ErrUnsupported) {
			return err // a folder with a .gguf file has no config.json either
		}
		e := invalid(c.Path, "no config.json in the directory")
		e.Advice = "give the directory that holds config.json and the .safetensors files"
		return e
	}
	configJSON, err := readSmallFile(configFile)
	if err != nil {
		return err
	}
	var generationJSON []byte
	generationFile := filepath.Join(c.Path, "generation_config.json")
	if exists(generationFile) {
		if generationJSON, err = readSmallFile(generationFile); err != nil {
			return err
		}
	}
	c.Config, c.Generation, err = parseConfig(configFile, configJSON, generationFile, generationJSON)
	return err
}

// NewEmbedded opens a model whose files are in the program: config.json and generation_config.json in files, and a whole
// safetensors file, which the tensors alias.
func NewEmbedded(name string, files fs.FS, safetensors []byte) (*Checkpoint, error) {
	configJSON, err := fs.ReadFile(files, "config.json")
	if err != nil {
		return nil, fmt.Errorf("model: opening %q: %w", name, err)
	}
	generationJSON, err := fs.ReadFile(files, "generation_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("model: opening %q: %w", name, err)
	}
	c := &Checkpoint{Name: name, Files: files, tensors: map[string]Tensor{}}
	c.Config, c.Generation, err = ParseConfig(configJSON, generationJSON)
	if err != nil {
		return nil, err
	}
	tensors, err := parseSafetensors(safetensors)
	if err != nil {
		return nil, &InvalidError{File: name, Problems: []error{err}}
	}
	for _, t := range tensors {
		c.tensors[t.Name] = t
	}
	if err := c.CheckShapes(); err != nil {
		return nil, err
	}
	c.Revision = c.revision()
	return c, nil
}

const (
	sampledTensors = 256 // spread over all, so that opening a model of 20,000 tensors stays cheap
	sampleBytes    = 64  // from the middle of each
)

// revision hashes the config, every tensor's header and samples of the weights. Two fine-tunes of one model differ in
// their samples; generated weights are told apart by name.
func (c *Checkpoint) revision() [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "quire checkpoint 1\n%+v\n", c.Config)
	if c.fill != nil {
		fmt.Fprintf(h, "generated %q\n", c.Name)
	}
	names := c.Names()
	for _, name := range names {
		t := c.tensors[name]
		fmt.Fprintf(h, "%q %s %v %d\n", name, t.DType, t.Shape, len(t.Data))
	}
	every := max(1, (len(names)+sampledTensors-1)/sampledTensors)
	for i := 0; i < len(names); i += every {
		data := c.tensors[names[i]].Data
		middle := len(data) / 2
		sample := data[middle:min(middle+sampleBytes, len(data))]
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(sample))))
		h.Write(sample)
	}
	return [32]byte(h.Sum(nil))
}
