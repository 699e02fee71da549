package model

import "io/fs"

// DType is the element type of a stored tensor.
type DType string

// The element types that can be loaded. F16 and F32 are rounded to bfloat16.
const (
	BF16 DType = "BF16"
	F16  DType = "F16"
	F32  DType = "F32"
)

// Tensor is a stored tensor. Data aliases the checkpoint's map and lives until the checkpoint is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte // row-major, little-endian; any alignment
}

// Checkpoint is a model on disk or in memory before it is on a device: configuration, tensors and tokenizer files.
type Checkpoint struct {
	Name       string // as asked for: a path, owner/name, "tiny", "synthetic:qwen3-0.6b"
	Path       string // directory, or "" where the model is not files
	Synthetic  bool   // weights were made up: speed means something, text does not
	Config     Config
	Generation Generation
	Files      fs.FS // tokenizer.json and its friends at the root
	// Revision identifies the content for cache keys: a hash of config and tensor headers.
	Revision [32]byte

	tensors map[string]Tensor
	close   func() error
}

// Generation is generation_config.json: what the model's makers advise. Nil fields are absent.
type Generation struct {
	EOS         []int32
	Temperature *float64
	TopP        *float64
	TopK        *int
	DoSample    *bool
}

// Provider serves models that are not directories: the built-in and the synthetic ones.
type Provider interface {
	// Names lists what can be asked for, for help texts and suggestions.
	Names() []string
	// Open returns the named model; nil and no error if the name is not one of this provider's.
	Open(name string) (*Checkpoint, error)
}
