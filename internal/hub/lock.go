package hub

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// errNoLocks is a file system or an operating system without advisory locks.
var errNoLocks = errors.New("no file locks here")

const lockPoll = 100 * time.Millisecond

// fileLock is an advisory lock on a file, exclusive among processes and among the goroutines of one.
type fileLock struct {
	file      *os.File
	temporary bool
}

// locker takes file locks.
type locker struct {
	clock Clock
	try   func(*os.File) (bool, error) // tryLock, but in tests
}

// acquire takes the lock at path, waiting for as long as another holds it; waiting is called once if so. A temporary
// lock's file is removed on release.
func (l *locker) acquire(ctx context.Context, path string, temporary bool, waiting func()) (*fileLock, error) {
	for {
		file, err := openIn(path)
		if err != nil {
			return nil, err
		}
		got, err := l.try(file)
		if err == nil && got {
			// Whoever held the lock may have removed the file: then this is a lock on nothing.
			if now, err := os.Stat(path); err == nil && sameFile(file, now) {
				return &fileLock{file, temporary}, nil
			}
		}
		file.Close()
		switch {
		case err != nil:
			if temporary {
				_ = os.Remove(path)
			}
			return nil, err
		case got:
			continue
		}
		waiting()
		waiting = func() {}
		if err := l.clock.Sleep(ctx, lockPoll); err != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// openIn opens a file for reading and writing, making it and its folder. Another pull that has just finished may remove
// the folder in between, when it is empty: then it is missing, or was there a moment ago.
func openIn(path string) (file *os.File, err error) {
	for range 100 {
		if err = os.MkdirAll(filepath.Dir(path), 0o777); err == nil {
			file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return file, err
}

func sameFile(file *os.File, now os.FileInfo) bool {
	own, err := file.Stat()
	return err == nil && os.SameFile(own, now)
}

// release gives the lock back. A nil lock has nothing to give.
func (l *fileLock) release() {
	if l == nil {
		return
	}
	if l.temporary {
		_ = os.Remove(l.file.Name())
	}
	_ = l.file.Close() // closing gives the lock back
}
