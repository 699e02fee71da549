//go:build darwin || linux

package hub

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes is what an ordinary user may still write on the disk of an existing folder.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
