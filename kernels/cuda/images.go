package cuda

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sync"

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

// ImagesHash is a SHA-256 over all embedded images, as 64 hexadecimal digits. Results that were measured with them, and the
// receipts of tests that were run on them, carry it.
var ImagesHash = sync.OnceValue(func() string {
	files, err := fs.Glob(images, "images/*")
	if err != nil {
		panic(err) // the pattern is malformed
	}
	h := sha256.New()
	for _, name := range files { // sorted
		data, err := images.ReadFile(name)
		if err != nil {
			panic(err) // it is in the program
		}
		one := sha256.Sum256(data)
		fmt.Fprintf(h, "%s %x\n", name, one)
	}
	return hex.EncodeToString(h.Sum(nil))
})
