package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	singleFile = "model.safetensors"
	indexFile  = "model.safetensors.index.json"
)

// weightFiles are the mapped safetensors files of one model.
type weightFiles struct {
	tensors map[string]Tensor
	maps    [][]byte
}

func (w *weightFiles) close() error {
	var all []error
	for _, m := range w.maps {
		all = append(all, unmap(m))
	}
	w.maps = nil
	return errors.Join(all...)
}

// openWeights maps model.safetensors or, where there is none, the shards that model.safetensors.index.json names.
func openWeights(dir string) (*weightFiles, error) {
	w := &weightFiles{tensors: map[string]Tensor{}}
	var err error
	if single := filepath.Join(dir, singleFile); exists(single) {
		err = w.add(single, nil)
	} else if index := filepath.Join(dir, indexFile); exists(index) {
		err = w.addShards(index)
	} else {
		err = noWeights(dir)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// add maps a file and takes its tensors, all of them or those named, each of which it must have.
func (w *weightFiles) add(path string, names []string) error {
	file, err := mapFile(path)
	if err != nil {
		return fmt.Errorf("model: mapping weights: %w", err)
	}
	w.maps = append(w.maps, file)
	tensors, err := parseSafetensors(file)
	if errors.Is(err, errLFS) {
		return &InvalidError{File: path, Problems: []error{err}, Advice: lfsAdvice}
	}
	if err != nil {
		return &InvalidError{File: path, Problems: []error{err}, Advice: "download the file again"}
	}
	held := make(map[string]Tensor, len(tensors))
	for _, t := range tensors {
		held[t.Name] = t
	}
	if names == nil {
		w.tensors = held
		return nil
	}
	for _, name := range names {
		t, ok := held[name]
		if !ok {
			return invalid(path, "tensor %q is not in it, though %s says so", name, indexFile)
		}
		w.tensors[name] = t
	}
	return nil
}

// addShards adds every file of an index. Of the index only weight_map is believed, and that is checked.
func (w *weightFiles) addShards(index string) error {
	data, err := readSmallFile(index)
	if err != nil {
		return err
	}
	shards, err := parseIndex(data)
	if err != nil {
		return &InvalidError{File: index, Problems: []error{err}}
	}
	dir := filepath.Dir(index)
	var missing []string
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if !exists(filepath.Join(dir, shard)) {
			missing = append(missing, shard)
		}
	}
	if len(missing) > 0 {
		e := invalid(index, "%d of its %d files missing from the directory: %s", len(missing), len(shards), firstFew(quoted(missing)))
		e.Advice = "download the missing files"
		return e
	}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if err := w.add(filepath.Join(dir, shard), shards[shard]); err != nil {
			return err
		}
	}
	return nil
}

// parseIndex reads model.safetensors.index.json: which tensors each shard holds.
func parseIndex(data []byte) (map[string][]string, error) {
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, errors.New("not valid JSON")
	}
	shards := map[string][]string{}
	r := newJSONReader(data)
	err := r.object(func(key string) error {
		if key != "weight_map" {
			return r.skip()
		}
		return r.object(func(tensor string) error {
			shard, err := r.text()
			if err != nil {
				return fmt.Errorf("weight_map: tensor %q: %w", tensor, err)
			}
			if !plainName(shard) || !strings.HasSuffix(shard, ".safetensors") {
				return fmt.Errorf("weight_map: tensor %q is in %q, which is not the plain name of a .safetensors file", tensor, shard)
			}
			shards[shard] = append(shards[shard], tensor)
			return nil
		})
	})
	if err == nil && len(shards) == 0 {
		err = errors.New("weight_map is missing or empty")
	}
	return shards, err
}

// noWeights says what a directory has in place of weights that can be read.
func noWeights(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("model: looking for weights: %w", err)
	}
	var shards []string
	for _, e := range entries {
		if err := refuseFormat(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		if strings.HasSuffix(e.Name(), ".safetensors") {
			shards = append(shards, e.Name())
		}
	}
	if len(shards) > 0 {
		e := invalid(dir, "neither %s nor %s is there, only %s", singleFile, indexFile, firstFew(quoted(shards)))
		e.Advice = "download " + indexFile + " too, or name a single file " + singleFile
		return e
	}
	e := invalid(dir, "no weights: neither %s nor %s is there", singleFile, indexFile)
	e.Advice = "download the model's .safetensors files into the directory"
	return e
}

// refuseFormat is an UnsupportedError if path has the name of weights in another format, nil otherwise.
func refuseFormat(path string) error {
	e := &UnsupportedError{File: path, What: "weight format", Supported: []string{"safetensors"}}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt":
		e.Found = "PyTorch pickle"
		e.Advice = "a pickle can run code when it is opened, so it is not read: take the model's .safetensors files, or convert it in Python with AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)"
	case ".gguf", ".ggml":
		e.Found = "GGUF"
		e.Advice = "take the repository with .safetensors files that the GGUF file was made from"
	case ".h5", ".msgpack", ".onnx":
		e.Found = strings.TrimPrefix(filepath.Ext(path), ".")
		e.Advice = "take the model's .safetensors files"
	default:
		return nil
	}
	return e
}

// readSmallFile reads a JSON file whole, and refuses one that no model has.
func readSmallFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Size() > maxHeaderBytes) {
		return nil, invalid(path, "not a JSON file of at most %d bytes", maxHeaderBytes)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("model: reading a configuration: %w", err)
	}
	if isLFSPointer(data) {
		return nil, &InvalidError{File: path, Problems: []error{errLFS}, Advice: lfsAdvice}
	}
	return data, nil
}

// A clone without git-lfs leaves a small text file in place of every large one.
var errLFS = errors.New("a git-lfs pointer is in place of the file itself")

const lfsAdvice = "run `git lfs pull` in the model's directory"

func isLFSPointer(data []byte) bool { return bytes.HasPrefix(data, []byte("version https://git-lfs")) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// plainName reports whether name is a file's name and nothing that leads out of its directory.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\:\x00")
}

// quoted makes names from a file safe to print.
func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strconv.Quote(name)
	}
	return out
}

// firstFew lists at most four names and counts the others.
func firstFew(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
