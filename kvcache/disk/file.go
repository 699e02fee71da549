package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/quire-llm/quire/kvcache"
)

// A file is a header and a block's bytes. All numbers are little-endian.
//
//	0   8   magic
//	8   32  identity: model, types, sizes
//	40  32  key
//	72  8   bytes that follow the header
//	80  4   CRC-32C of those
//	84  4   CRC-32C of the header up to here
//	88  40  zero
const (
	headerBytes = 128
	magic       = "quireKV\x01"
	suffix      = ".kv"
	unfinished  = ".part"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is a file that is not what it was when it was written.
var errDamaged = errors.New("the file is damaged")

type header struct {
	identity [32]byte
	key      kvcache.Key
	bytes    uint64
	sum      uint32
}

func (h *header) encode() []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	b = append(b, h.identity[:]...)
	b = append(b, h.key[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.bytes)
	b = binary.LittleEndian.AppendUint32(b, h.sum)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:headerBytes]
}

func decode(b []byte) (h header, err error) {
	if len(b) != headerBytes || string(b[:8]) != magic {
		return h, errors.New("the file is none of ours")
	}
	if crc32.Checksum(b[:84], castagnoli) != binary.LittleEndian.Uint32(b[84:]) {
		return h, errDamaged
	}
	copy(h.identity[:], b[8:])
	copy(h.key[:], b[40:])
	h.bytes = binary.LittleEndian.Uint64(b[72:])
	h.sum = binary.LittleEndian.Uint32(b[80:])
	return h, nil
}

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	return decodeFrom(f)
}

func decodeFrom(r io.Reader) (header, error) {
	var b [headerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return decode(b[:])
}

// readBlock reads a file's block into dst if all that the header says is as wanted.
func readBlock(path string, identity [32]byte, key kvcache.Key, dst []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := decodeFrom(f)
	switch {
	case err != nil:
		return err
	case h.identity != identity || h.key != key:
		return errors.New("the file is of another model or block")
	case h.bytes != uint64(len(dst)):
		return fmt.Errorf("%w: it has %d bytes, want %d", errDamaged, h.bytes, len(dst))
	}
	if _, err := io.ReadFull(f, dst); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if crc32.Checksum(dst, castagnoli) != h.sum {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	return nil
}

// writeBlock writes a file under another name and renames it. It does not wait for the disk: what a power failure leaves
// of it has a wrong checksum.
func writeBlock(path string, identity [32]byte, key kvcache.Key, src []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "*"+unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	h := header{identity, key, uint64(len(src)), crc32.Checksum(src, castagnoli)}
	_, err = io.Copy(f, io.MultiReader(bytes.NewReader(h.encode()), bytes.NewReader(src)))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
