package cuda

import (
	"embed"
	"fmt"

	"github.com/quire-llm/quire/kernels/cuda/internal/build"
)

// The targets of an image: machine code for compute capability 9.0, and PTX that the driver compiles for others from 8.0.
const (
	SM90a     = build.SM90a
	Compute80 = build.Compute80
)

//go:embed images
var images embed.FS

// Image is the image of that name for a target, as [Context.OpenModule] takes it: a cubin, or PTX text that ends with a zero
// byte.
func Image(name, target string) ([]byte, error) {
	packed, err := images.ReadFile("images/" + build.File(name, target))
	if err != nil {
		return nil, fmt.Errorf("cuda: no image %q for %s: %w", name, target, err)
	}
	image, err := build.Unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("cuda: unpacking image %q for %s: %w", name, target, err)
	}
	if target == Compute80 {
		image = append(image, 0)
	}
	return image, nil
}
