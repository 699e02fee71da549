package model

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// A safetensors file is the length of its header as a little-endian uint64, the header, a JSON object of tensor name →
// {dtype, shape, data_offsets}, and a buffer that the tensors fill without holes or overlaps. The rules below are those of
// the format's own reader (https://github.com/huggingface/safetensors, "Format"); a file that breaks one may be an attack,
// so every number is checked before anything is sliced.

// maxHeaderBytes is the format's own limit.
const maxHeaderBytes = 100_000_000

// parseSafetensors reads the header of a whole file. The tensors alias file and come in the order of their offsets.
func parseSafetensors(file []byte) ([]Tensor, error) {
	header, buffer, err := splitSafetensors(file)
	if err != nil {
		return nil, err
	}
	entries, err := parseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("safetensors header: %w", err)
	}
	return sliceBuffer(entries, buffer)
}

func splitSafetensors(file []byte) (header, buffer []byte, err error) {
	if isLFSPointer(file) {
		return nil, nil, errLFS
	}
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("the file has %d bytes, too few for safetensors: the download is not complete", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeaderBytes {
		return nil, nil, fmt.Errorf("not a safetensors file: a header of %d bytes is over the format's limit of %d", n, maxHeaderBytes)
	}
	if n > uint64(len(file)-8) {
		return nil, nil, fmt.Errorf("truncated: the header has %d bytes, the file %d: the download is not complete", n, len(file))
	}
	header, buffer = file[8:8+n], file[8+n:]
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("not a safetensors file: the header does not begin with {")
	}
	if !utf8.Valid(header) {
		return nil, nil, errors.New("safetensors header: not valid UTF-8")
	}
	if !json.Valid(header) {
		return nil, nil, errors.New("safetensors header: not valid JSON")
	}
	return header, buffer, nil
}

// headerEntry is one tensor as the header describes it.
type headerEntry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int // in the buffer
}

// parseHeader reads the header, which is valid JSON.
func parseHeader(header []byte) ([]headerEntry, error) {
	var entries []headerEntry
	r := newJSONReader(header)
	err := r.object(func(key string) error {
		if key == "__metadata__" {
			return r.object(func(string) error { _, err := r.text(); return err })
		}
		e, err := parseEntry(r, key)
		entries = append(entries, e)
		return err
	})
	return entries, err
}

func parseEntry(r *jsonReader, name string) (headerEntry, error) {
	e := headerEntry{name: name}
	var offsets []int
	fields := 0
	err := r.object(func(key string) (err error) {
		fields++
		switch key {
		case "dtype":
			var s string
			s, err = r.text()
			e.dtype = DType(s)
		case "shape":
			e.shape, err = r.counts()
		case "data_offsets":
			offsets, err = r.counts()
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		return err
	})
	switch {
	case err != nil:
	case fields != 3:
		err = errors.New("dtype, shape or data_offsets is missing")
	case e.dtype.bits() == 0:
		err = fmt.Errorf("unknown dtype %q", e.dtype)
	case len(offsets) != 2:
		err = fmt.Errorf("data_offsets has %d numbers, want 2", len(offsets))
	default:
		e.begin, e.end = offsets[0], offsets[1]
		return e, nil
	}
	return e, fmt.Errorf("tensor %q: %w", name, err)
}

// bytes is the size that dtype and shape ask for.
func (e headerEntry) bytes() (int, error) {
	if slices.Contains(e.shape, 0) {
		return 0, nil
	}
	n := uint64(1)
	for _, d := range append([]int{e.dtype.bits()}, e.shape...) {
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("tensor %q: shape %v overflows", e.name, e.shape)
		}
		n = lo
	}
	if n%8 != 0 {
		return 0, fmt.Errorf("tensor %q: shape %v of %s does not fill whole bytes", e.name, e.shape, e.dtype)
	}
	if n/8 > math.MaxInt {
		return 0, fmt.Errorf("tensor %q: shape %v overflows", e.name, e.shape)
	}
	return int(n / 8), nil
}

// sliceBuffer checks that the entries tile buffer and cuts it into tensors.
func sliceBuffer(entries []headerEntry, buffer []byte) ([]Tensor, error) {
	slices.SortFunc(entries, func(a, b headerEntry) int {
		if a.begin != b.begin {
			return a.begin - b.begin // both are ≥ 0
		}
		return a.end - b.end
	})
	for _, e := range entries {
		if e.begin <= e.end && e.end > len(buffer) {
			return nil, fmt.Errorf("truncated: tensor %q ends at byte %d of a buffer that has %d: the download is not complete", e.name, e.end, len(buffer))
		}
	}
	tensors := make([]Tensor, 0, len(entries))
	at := 0
	for _, e := range entries {
		want, err := e.bytes()
		switch {
		case err != nil:
			return nil, err
		case e.begin > e.end:
			return nil, fmt.Errorf("tensor %q: data_offsets %d..%d run backwards", e.name, e.begin, e.end)
		case e.begin < at:
			return nil, fmt.Errorf("tensor %q: begins at byte %d, inside the tensor before it, which ends at %d", e.name, e.begin, at)
		case e.begin > at:
			return nil, fmt.Errorf("tensor %q: begins at byte %d and leaves a hole after %d", e.name, e.begin, at)
		case e.end-e.begin != want:
			return nil, fmt.Errorf("tensor %q: data_offsets hold %d bytes, %s of shape %v needs %d", e.name, e.end-e.begin, e.dtype, e.shape, want)
		}
		tensors = append(tensors, Tensor{Name: e.name, DType: e.dtype, Shape: e.shape, Data: buffer[e.begin:e.end:e.end]})
		at = e.end
	}
	if at != len(buffer) {
		return nil, fmt.Errorf("%d bytes follow the last tensor", len(buffer)-at)
	}
	return tensors, nil
}
