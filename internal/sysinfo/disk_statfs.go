//go:build linux || darwin

package sysinfo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeBytes is what an ordinary user may still write on the disk of an existing folder.
func FreeBytes(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("sysinfo: asking for the free space of %q: %w", dir, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}
