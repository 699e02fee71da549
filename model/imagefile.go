package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quire-llm/quire/kernels"
)

// imageFile is a file that keeps the quantized weights of one model, so that they need not be made again. Its name is what it
// was made from. A header comes first:
//
//	8 bytes   "quireW8\n"
//	32 bytes  the key, which is the name too
//	8 bytes   size of the image
//	4 bytes   CRC-32C of the image
//
// with zeros up to 4096 bytes, then the image. All numbers are little-endian. The image is read into large pages, not mapped:
// it is read once anyway, for the sum, and products read it half as fast again from there.
type imageFile struct {
	path string
	key  [32]byte
}

const (
	imageMagic       = "quireW8\n"
	imageHeaderBytes = 4096
	imageVersion     = 1 // of the layout of int8 weights and of their rounding
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newImageFile names the file of a checkpoint in a directory. Files of weights count by name, size and time of change: the
// checkpoint's revision does not see every byte.
func newImageFile(dir string, ck *Checkpoint) (imageFile, error) {
	h := sha256.New()
	fmt.Fprintf(h, "quire int8 weights %d, blocks of %d\n%x\n", imageVersion, kernels.Int8Block, ck.Revision)
	if ck.Path != "" {
		files, err := filepath.Glob(filepath.Join(ck.Path, "*.safetensors"))
		if err != nil {
			return imageFile{}, err
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				return imageFile{}, fmt.Errorf("naming a cache of weights: %w", err)
			}
			fmt.Fprintf(h, "%q %d %d\n", filepath.Base(f), info.Size(), info.ModTime().UnixNano())
		}
	}
	f := imageFile{key: [32]byte(h.Sum(nil))}
	f.path = filepath.Join(dir, fmt.Sprintf("%x.int8", f.key))
	return f, nil
}

// header is the file's beginning for an image.
func (f imageFile) header(size int, sum uint32) []byte {
	b := append([]byte(imageMagic), f.key[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, make([]byte, imageHeaderBytes-len(b))...)
}

// read fills image. A file that is not there is no error; one that is not whole, or another's, is, and image means nothing then.
func (f imageFile) read(image []byte) (found bool, err error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if want := int64(imageHeaderBytes + len(image)); info.Size() != want {
		return false, fmt.Errorf("%q has %d bytes, want %d", f.path, info.Size(), want)
	}
	header := make([]byte, imageHeaderBytes)
	if _, err := io.ReadFull(file, header); err != nil {
		return false, fmt.Errorf("reading %q: %w", f.path, err)
	}
	sum := uint32(0)
	for rest := image; len(rest) > 0; {
		part := rest[:min(len(rest), 1<<20)] // small enough to be in the cache for the sum
		if _, err := io.ReadFull(file, part); err != nil {
			return false, fmt.Errorf("reading %q: %w", f.path, err)
		}
		sum = crc32.Update(sum, castagnoli, part)
		rest = rest[len(part):]
	}
	if !bytes.Equal(header, f.header(len(image), sum)) {
		return false, fmt.Errorf("%q is damaged or not what its name says", f.path)
	}
	return true, nil
}

// write replaces the file. Others see the old one or the new one, whole.
func (f imageFile) write(image []byte) (err error) {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, filepath.Base(f.path)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	_, err = file.Write(f.header(len(image), crc32.Checksum(image, castagnoli)))
	if err == nil {
		_, err = file.Write(image)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", f.path, err)
	}
	return os.Rename(file.Name(), f.path)
}
