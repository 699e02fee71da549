package model

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// Tensor is a stored tensor. Data aliases the checkpoint's memory and lives until the checkpoint is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte // row-major, little-endian; any alignment; read-only
}

// Checkpoint is a model on disk or in memory before it is on a device: configuration, tensors and tokenizer files. It is
// opened from headers alone: what it needs is known before a weight is read or made. Safe for concurrent use.
type Checkpoint struct {
	Name       string // as asked for: a path, owner/name, "tiny", "synthetic:qwen3-0.6b"
	Path       string // directory, or "" where the model is not files
	Synthetic  bool   // weights were made up: speed means something, text does not
	Config     Config
	Generation Generation
	Files      fs.FS // tokenizer.json and its friends at the root
	// Revision identifies the content for cache keys: a hash of the config, of the tensors' headers and of samples of
	// their bytes. Not a checksum: a changed byte may go unseen.
	Revision [32]byte
	// Log receives one line for what a user should know. Set it before the first Weight. Nil: nothing.
	Log func(line string)

	tensors map[string]Tensor
	close   func() error
	mapped  bool // tensors lie in the maps of files

	// fill makes a tensor's bfloat16 bytes; only generated checkpoints have it, and their tensors have no Data.
	fill func(name string, dst []byte)

	mu     sync.Mutex
	made   map[string]Tensor // guarded by mu: generated, or rounded to bfloat16
	memory arena             // guarded by mu: of made
	logged []DType           // guarded by mu: types whose rounding Log was told of
	closed bool              // guarded by mu
}

// Provider serves models that are not directories: the built-in and the synthetic ones.
type Provider interface {
	// Names lists what can be asked for, for help texts and suggestions.
	Names() []string
	// Open returns the named model; nil and no error if the name is not one of this provider's.
	Open(name string) (*Checkpoint, error)
}

// NewCheckpoint is a checkpoint of tensors in memory. It does not copy them, and does not check them against the config:
// CheckShapes does.
func NewCheckpoint(name string, config Config, tensors map[string]Tensor, files fs.FS) *Checkpoint {
	c := &Checkpoint{Name: name, Config: config, Files: files, tensors: tensors}
	c.Generation.EOS = config.EOS
	c.Revision = c.revision()
	return c
}

// NewGenerated is a checkpoint whose weights fill makes: all that config implies, in bfloat16. A tensor is made when it is
// first asked for and kept until Close, so WeightBytes can be checked against memory before any of it is taken. fill must
// give the same bytes whenever it is called with the same name; one call runs at a time. Name and config are its identity.
func NewGenerated(name string, config Config, fill func(name string, dst []byte), files fs.FS) *Checkpoint {
	c := &Checkpoint{Name: name, Synthetic: true, Config: config, Files: files, tensors: map[string]Tensor{}, fill: fill}
	c.Generation.EOS = config.EOS
	for name, shape := range config.Weights() {
		c.tensors[name] = Tensor{Name: name, DType: BF16, Shape: shape}
	}
	c.Revision = c.revision()
	return c
}

// Names lists the tensors, sorted.
func (c *Checkpoint) Names() []string { return slices.Sorted(maps.Keys(c.tensors)) }

// Parameters counts the weights that the config implies.
func (c *Checkpoint) Parameters() int64 {
	var n int64
	for _, shape := range c.Config.Weights() {
		n += int64(elements(shape))
	}
	return n
}

// WeightBytes is the memory that the weights take on a device: two bytes each, whatever type they are stored as.
func (c *Checkpoint) WeightBytes() int64 { return 2 * c.Parameters() }

// Tensor is the named tensor as stored.
func (c *Checkpoint) Tensor(name string) (Tensor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tensor(name)
}

// Weight is the named tensor in bfloat16: as stored where the file has BF16, rounded to nearest where it has F16 or F32.
// The result is made once and kept. A tensor of another shape is an InvalidError.
func (c *Checkpoint) Weight(name string, shape ...int) (Tensor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.weight(name, shape...)
}

func (c *Checkpoint) weight(name string, shape ...int) (Tensor, error) {
	if t, ok := c.tensors[name]; ok && !slices.Equal(t.Shape, shape) {
		return Tensor{}, invalid(c.Name, "%w", shapeProblem(t, shape))
	}
	t, err := c.tensor(name)
	if err != nil || t.DType == BF16 {
		return t, err
	}
	if rounded, ok := c.made[name]; ok {
		return rounded, nil
	}
	if !t.DType.loadable() {
		return Tensor{}, unloadableError(c.Name, t)
	}
	if c.Log != nil && !slices.Contains(c.logged, t.DType) {
		c.Log(fmt.Sprintf("model: weights stored as %s are rounded to bfloat16", t.DType))
		c.logged = append(c.logged, t.DType)
	}
	return c.make(t, func(dst []byte) { roundToBF16(dst, t.Data, t.DType) })
}

func (c *Checkpoint) tensor(name string) (Tensor, error) {
	if c.closed {
		return Tensor{}, fmt.Errorf("model: reading tensor %q: %w", name, errClosed)
	}
	t, ok := c.tensors[name]
	if !ok {
		return Tensor{}, invalid(c.Name, "tensor %q is missing", name)
	}
	if c.fill == nil {
		return t, nil
	}
	if made, ok := c.made[name]; ok {
		return made, nil
	}
	return c.make(t, func(dst []byte) { c.fill(name, dst) })
}

// make keeps t as bfloat16 that write has written.
func (c *Checkpoint) make(t Tensor, write func(dst []byte)) (Tensor, error) {
	data, err := c.memory.alloc(2 * elements(t.Shape))
	if err != nil {
		return Tensor{}, fmt.Errorf("model: memory for tensor %q: %w", t.Name, err)
	}
	write(data)
	t.DType, t.Data = BF16, data
	if c.made == nil {
		c.made = map[string]Tensor{}
	}
	c.made[t.Name] = t
	return t, nil
}

var errClosed = errors.New("the checkpoint is closed")

// Close gives back the memory and the maps; tensors must not be used after. A second call does nothing.
func (c *Checkpoint) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed, c.made = true, nil
	err := c.memory.release()
	if c.close != nil {
		err = errors.Join(err, c.close())
	}
	if err != nil {
		return fmt.Errorf("model: closing %q: %w", c.Name, err)
	}
	return nil
}
