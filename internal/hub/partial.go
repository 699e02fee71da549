package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// digest names a content: 64 hex digits are its SHA-256 (of an LFS file), 40 are its git blob SHA-1 (of any other).
type digest string

func (d digest) valid() bool {
	return commitName.MatchString(string(d)) // the same two lengths
}

// hash returns the hash that, given all bytes of a content, sums to the digest.
func (d digest) hash(size int64) hash.Hash {
	if len(d) == hex.EncodedLen(sha256.Size) {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// matches reads a file and reports whether it is the content of f.
func (f *File) matches(ctx context.Context, path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	sum := f.digest.hash(f.Bytes)
	if _, err := io.Copy(sum, &contextReader{ctx, file}); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == string(f.digest), nil
}

// contextReader ends a long read when the context does.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// partial is the first bytes of a content, on disk. One goroutine uses it, and holds the lock that goes with the path.
type partial struct {
	of   *File
	file *os.File
	have int64     // bytes in file, and in sum
	sum  hash.Hash // of these bytes
	etag string    // strong validator of the response that they came from; "" if unknown or from an earlier run
}

// openPartial opens or makes the file at path, and reads what an earlier run left there.
func openPartial(ctx context.Context, path string, of *File) (*partial, error) {
	file, err := openIn(path)
	if err != nil {
		return nil, err
	}
	p := &partial{of: of, file: file, sum: of.digest.hash(of.Bytes)}
	if p.have, err = io.Copy(p.sum, &contextReader{ctx, file}); err == nil && p.have > of.Bytes {
		err = p.reset()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return p, nil
}

// Write adds bytes at the end.
func (p *partial) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.sum.Write(b[:n])
	p.have += int64(n)
	return n, err
}

// reset throws everything away.
func (p *partial) reset() error {
	p.have, p.etag, p.sum = 0, "", p.of.digest.hash(p.of.Bytes)
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

// check compares size and digest with what was promised. It returns a *CorruptError.
func (p *partial) check() error {
	if p.have != p.of.Bytes {
		return &CorruptError{p.of.Name, fmt.Sprintf("%d bytes", p.of.Bytes), fmt.Sprintf("%d bytes", p.have)}
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != string(p.of.digest) {
		return &CorruptError{p.of.Name, string(p.of.digest), got}
	}
	return nil
}

// close makes a whole content durable, so that a power cut cannot leave its name on other bytes, and removes an empty
// file. An incomplete content just stays.
func (p *partial) close(whole bool) error {
	var err error
	if whole {
		err = p.file.Sync()
	} else if p.have == 0 {
		err = os.Remove(p.file.Name())
	}
	return errors.Join(err, p.file.Close())
}
