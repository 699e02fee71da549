package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// place makes one file be in its place, whole and checked.
func (p *Pull) place(ctx context.Context, f *File) error {
	if f.whole {
		return p.store.show(f)
	}
	path := p.store.partial(f)
	lockPath, temporary := p.store.lock(f)
	lock, err := p.locks.acquire(ctx, lockPath, temporary, func() { p.client.opt.Observer.wait(f.Name) })
	if errors.Is(err, errNoLocks) {
		path += uniqueSuffix()
		defer os.Remove(path)
	} else if err != nil {
		return err
	}
	defer lock.release()
	if here, err := p.store.has(ctx, f); err != nil {
		return err
	} else if here { // another pull has brought it
		f.HaveBytes = f.Bytes
		err := p.store.show(f)
		if err == nil {
			p.client.opt.Observer.fileDone(*f)
		}
		return err
	}
	part, err := openPartial(ctx, path, f)
	if err != nil {
		return err
	}
	f.HaveBytes = part.have
	p.client.opt.Observer.fileStart(*f)
	err = p.download(ctx, f, part)
	if closeErr := part.close(err == nil); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := p.store.keep(f, path); err != nil {
		return err
	}
	p.client.opt.Observer.fileDone(*f)
	return nil
}

// download completes part. Content that turns out wrong is thrown away and fetched again, once: the fault may have been
// in what an earlier run had left.
func (p *Pull) download(ctx context.Context, f *File, part *partial) error {
	best := part.have
	for try := 1; ; try++ {
		err := p.client.retry(ctx, f.Name, func(ctx context.Context) (int64, error) {
			err := p.transfer(ctx, f, part)
			gained := max(0, part.have-best)
			best += gained
			return gained, err
		})
		if err == nil {
			err = part.check()
		}
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		if resetErr := part.reset(); resetErr != nil {
			return errors.Join(err, resetErr)
		}
		if try == 2 {
			return err
		}
		p.client.opt.Observer.retry(f.Name, Retry{Attempt: try, Limit: 1, Err: err})
		p.client.opt.Observer.bytes(f.Name, 0)
	}
}

// transfer asks for the bytes that part lacks and appends what comes. On an error part holds what came before it, or
// nothing where the server would not go on from there. An answer that cannot be the promised content is a
// *CorruptError.
func (p *Pull) transfer(ctx context.Context, f *File, part *partial) error {
	if part.have == f.Bytes {
		return nil
	}
	ctx, dog := watch(ctx, p.client.opt.Clock, p.client.opt.StallTimeout)
	defer dog.stop()
	address := fmt.Sprintf("%s/%s/resolve/%s/%s", p.client.env.endpoint(), p.Model, p.Commit, escapePath(f.Name))
	header := http.Header{}
	if part.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", part.have))
		if part.etag != "" {
			header.Set("If-Range", part.etag)
		}
	}
	response, err := p.client.get(ctx, address, header)
	var status *StatusError
	if errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable && part.have > 0 {
		return restart(part, status.URL, "the server has no such range")
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := p.position(f, part, response); err != nil {
		return err
	}
	if promised := response.ContentLength; promised > f.Bytes-part.have {
		return &CorruptError{f.Name, fmt.Sprintf("%d bytes", f.Bytes), fmt.Sprintf("%d bytes", part.have+promised)}
	}
	buffer := make([]byte, 256<<10)
	for {
		n, err := response.Body.Read(buffer)
		dog.feed()
		if int64(n) > f.Bytes-part.have {
			return &CorruptError{f.Name, fmt.Sprintf("%d bytes", f.Bytes), "more"}
		}
		if n > 0 {
			if _, err := part.Write(buffer[:n]); err != nil {
				return err
			}
			p.client.opt.Observer.bytes(f.Name, part.have)
		}
		if err == io.EOF && part.have == f.Bytes {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return p.client.broken(ctx, response.Request.URL, err)
		}
	}
}

// position makes part end where the body of the response starts.
func (p *Pull) position(f *File, part *partial, response *http.Response) error {
	address := plainURL(response.Request.URL)
	etag := response.Header.Get("ETag")
	if strings.HasPrefix(etag, "W/") || len(etag) > 1024 {
		etag = "" // a weak one does not promise the same bytes
	}
	if response.StatusCode == http.StatusOK {
		if part.have > 0 { // the server ignores ranges, or has other bytes now
			if err := part.reset(); err != nil {
				return err
			}
			p.client.opt.Observer.bytes(f.Name, 0)
		}
		part.etag = etag
		return nil
	}
	var first, last, total int64
	given := response.Header.Get("Content-Range")
	n, _ := fmt.Sscanf(given, "bytes %d-%d/%d", &first, &last, &total)
	switch {
	case n < 2 || first != part.have || last < first || last >= f.Bytes:
		return restart(part, address, fmt.Sprintf("the server sent the range %q, not from %d", printable(given, 80), part.have))
	case n == 3 && total != f.Bytes:
		return &CorruptError{f.Name, fmt.Sprintf("%d bytes", f.Bytes), fmt.Sprintf("%d bytes", total)}
	case part.etag != "" && etag != "" && etag != part.etag:
		return restart(part, address, "the file on the server has changed")
	}
	if part.have == 0 {
		part.etag = etag
	}
	return nil
}

// restart throws part away and returns the error that makes the next attempt ask for everything.
func restart(part *partial, address, why string) error {
	if err := part.reset(); err != nil {
		return err
	}
	return &TransferError{URL: address, Err: errors.New(why)}
}
