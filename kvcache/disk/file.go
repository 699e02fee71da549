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

// A file is a header, room for the ids of a block's tokens, and the block's bytes. All numbers are little-endian.
//
//	0   8   magic
//	8   32  identity: model, types, sizes
//	40  32  key
//	72  8   bytes of the block
//	80  4   tokens of the block, 4 bytes each; of the room for them the rest is zero
//	84  4   CRC-32C of all that follows the header
//	88  4   CRC-32C of the header up to here
//	92  36  zero
const (
	headerBytes = 128
	magic       = "quireKV\x02" // the last byte is the version: 1 had no token ids
	suffix      = ".kv"
	unfinished  = ".part"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is a file that is not what it was when it was written.
var errDamaged = errors.New("the file is damaged")

// errTokens is a file whose block holds other tokens than its key was asked for.
var errTokens = errors.New("the file holds other tokens under the same key")

// errVersion is a file of another version of this format.
var errVersion = errors.New("the file is of another version of the format")

type header struct {
	identity [32]byte
	key      kvcache.Key
	bytes    uint64
	tokens   uint32
	sum      uint32
}

func (h *header) encode() []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	b = append(b, h.identity[:]...)
	b = append(b, h.key[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.bytes)
	b = binary.LittleEndian.AppendUint32(b, h.tokens)
	b = binary.LittleEndian.AppendUint32(b, h.sum)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:headerBytes]
}

func decode(b []byte) (h header, err error) {
	switch {
	case len(b) != headerBytes || string(b[:7]) != magic[:7]:
		return h, errors.New("the file is none of ours")
	case b[7] != magic[7]:
		return h, errVersion
	case crc32.Checksum(b[:88], castagnoli) != binary.LittleEndian.Uint32(b[88:]):
		return h, errDamaged
	}
	copy(h.identity[:], b[8:])
	copy(h.key[:], b[40:])
	h.bytes = binary.LittleEndian.Uint64(b[72:])
	h.tokens = binary.LittleEndian.Uint32(b[80:])
	h.sum = binary.LittleEndian.Uint32(b[84:])
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

// encodeTokens is the room for a block's token ids, filled.
func encodeTokens(tokens []int32, room int) []byte {
	b := make([]byte, 4*room)
	for i, t := range tokens {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(t))
	}
	return b
}

// readBlock reads a file's block, which has room for so many tokens, into dst if all that the file says is as wanted.
func readBlock(path string, identity [32]byte, key kvcache.Key, tokens []int32, room int, dst []byte) error {
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
	ids := make([]byte, 4*room)
	if _, err := io.ReadFull(f, ids); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if _, err := io.ReadFull(f, dst); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if crc32.Update(crc32.Checksum(ids, castagnoli), castagnoli, dst) != h.sum {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	if int(h.tokens) != len(tokens) || !bytes.Equal(ids, encodeTokens(tokens, room)) {
		return errTokens
	}
	return nil
}

// writeBlock writes a file under another name and renames it. It does not wait for the disk: what a power failure leaves
// of it has a wrong checksum.
func writeBlock(path string, identity [32]byte, key kvcache.Key, tokens []int32, room int, src []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "*"+unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	ids := encodeTokens(tokens, room)
	h := header{identity, key, uint64(len(src)), uint32(len(tokens)), crc32.Update(crc32.Checksum(ids, castagnoli), castagnoli, src)}
	_, err = io.Copy(f, io.MultiReader(bytes.NewReader(h.encode()), bytes.NewReader(ids), bytes.NewReader(src)))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
