package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// store is where a pull puts files. Two stores: the cache and a plain folder.
type store interface {
	dir() string                                    // where the files appear under their names
	partial(f *File) string                         // the file with the first bytes of f, to be resumed
	lock(f *File) (path string, temporary bool)     // the lock that the writer of partial holds
	has(ctx context.Context, f *File) (bool, error) // the whole content is here
	show(f *File) error                             // content that is here gets its name, if it has not got it
	keep(f *File, partial string) error             // the whole, checked content becomes f
	finish() error                                  // all files are in place
}

// cacheStore is the layout that the package comment shows.
type cacheStore struct {
	cacheDir         string
	model            string
	revision, commit string
	verify           bool // read what is here instead of trusting its size

	symlink func(target, name string) error // os.Symlink, but in tests
}

func (s *cacheStore) root() string           { return modelDir(s.cacheDir, s.model) }
func (s *cacheStore) dir() string            { return filepath.Join(s.root(), "snapshots", s.commit) }
func (s *cacheStore) blob(f *File) string    { return filepath.Join(s.root(), "blobs", string(f.digest)) }
func (s *cacheStore) partial(f *File) string { return s.blob(f) + ".incomplete" }

// lock is where huggingface_hub has it, which takes the same kind of lock and leaves the file.
func (s *cacheStore) lock(f *File) (string, bool) {
	return filepath.Join(modelDir(filepath.Join(s.cacheDir, ".locks"), s.model), string(f.digest)+".lock"), false
}

func (s *cacheStore) has(ctx context.Context, f *File) (bool, error) {
	if !hasSize(s.blob(f), f.Bytes) {
		return false, nil
	}
	if !s.verify {
		return true, nil
	}
	return f.matches(ctx, s.blob(f))
}

func (s *cacheStore) keep(f *File, partial string) error {
	if err := os.Rename(partial, s.blob(f)); err != nil {
		return err
	}
	return s.name(f, true)
}

func (s *cacheStore) show(f *File) error { return s.name(f, false) }

// name links the snapshot's file to the blob. A copy, made where links do not work, is trusted for its size unless
// fresh says that the blob is new.
func (s *cacheStore) name(f *File, fresh bool) error {
	name := filepath.Join(s.dir(), filepath.FromSlash(f.Name))
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	target, err := filepath.Rel(filepath.Dir(name), s.blob(f))
	if err != nil {
		return err
	}
	if now, err := os.Readlink(name); err == nil && now == target {
		return nil
	}
	info, err := os.Lstat(name)
	if err == nil && info.Mode().IsRegular() && info.Size() == f.Bytes && !fresh && !s.verify {
		return nil
	}
	temporary := name + uniqueSuffix()
	if s.symlink(target, temporary) != nil {
		if err := copyFile(s.blob(f), temporary); err != nil {
			return err
		}
	}
	return replace(temporary, name)
}

// finish notes what the revision stands for: last, so that a revision is found only when its files are here.
func (s *cacheStore) finish() error {
	if s.revision == s.commit {
		return nil
	}
	ref := filepath.Join(s.root(), "refs", filepath.FromSlash(s.revision))
	if err := os.MkdirAll(filepath.Dir(ref), 0o777); err != nil {
		return err
	}
	temporary := ref + uniqueSuffix()
	if err := os.WriteFile(temporary, []byte(s.commit), 0o666); err != nil {
		return err
	}
	return replace(temporary, ref)
}

// folderStore puts plain files into a folder of the user's.
type folderStore struct {
	folder string
}

func (s *folderStore) dir() string  { return s.folder }
func (s *folderStore) work() string { return filepath.Join(s.folder, ".cache", "quire") }
func (s *folderStore) file(f *File) string {
	return filepath.Join(s.folder, filepath.FromSlash(f.Name))
}

func (s *folderStore) partial(f *File) string {
	return filepath.Join(s.work(), string(f.digest)+".incomplete")
}

func (s *folderStore) lock(f *File) (string, bool) {
	return filepath.Join(s.work(), string(f.digest)+".lock"), true
}

// has reads the file, since nothing else tells two revisions of the same size apart.
func (s *folderStore) has(ctx context.Context, f *File) (bool, error) {
	if !hasSize(s.file(f), f.Bytes) {
		return false, nil
	}
	return f.matches(ctx, s.file(f))
}

func (s *folderStore) show(*File) error { return nil }

func (s *folderStore) keep(f *File, partial string) error {
	if err := os.MkdirAll(filepath.Dir(s.file(f)), 0o777); err != nil {
		return err
	}
	return os.Rename(partial, s.file(f))
}

// finish removes the work folder unless something is still in it.
func (s *folderStore) finish() error {
	if os.Remove(s.work()) == nil {
		_ = os.Remove(filepath.Dir(s.work()))
	}
	return nil
}

func hasSize(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// replace renames, and leaves nothing behind if that fails.
func replace(temporary, name string) error {
	err := os.Rename(temporary, name)
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// uniqueSuffix makes a name that no other writer has.
func uniqueSuffix() string { return "." + strings.ToLower(rand.Text()[:12]) + ".incomplete" }

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Sync(), target.Close()); err != nil {
		_ = os.Remove(to)
		return err
	}
	return nil
}

// existing is the nearest folder above path, or path itself, that exists.
func existing(path string) string {
	for {
		_, err := os.Stat(path)
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return path
		}
		path = up
	}
}
