package model

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// WriteSafetensors writes tensors as one safetensors file, in the order given. The header is padded with spaces so that
// the buffer starts at a multiple of 8 bytes.
func WriteSafetensors(w io.Writer, tensors []Tensor) error {
	type entry struct {
		DType   DType  `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header := make(map[string]any, len(tensors)+1)
	header["__metadata__"] = map[string]string{"format": "pt"}
	at := 0
	for _, t := range tensors {
		want, err := headerEntry{name: t.Name, dtype: t.DType, shape: t.Shape}.bytes()
		if err != nil {
			return fmt.Errorf("model: writing safetensors: %w", err)
		}
		if _, twice := header[t.Name]; twice || t.DType.bits() == 0 || want != len(t.Data) {
			return fmt.Errorf("model: writing safetensors: tensor %q has %d bytes, want %d for %s of shape %v, once", t.Name, len(t.Data), want, t.DType, t.Shape)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		header[t.Name] = entry{t.DType, shape, [2]int{at, at + len(t.Data)}}
		at += len(t.Data)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("model: writing safetensors: %w", err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("model: writing safetensors: %w", err)
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return fmt.Errorf("model: writing safetensors: tensor %q: %w", t.Name, err)
		}
	}
	return nil
}
