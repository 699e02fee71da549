//go:build !(linux && cgo && (amd64 || arm64))

package cuda

import (
	"errors"
	"fmt"
	"runtime"
)

// Driver is an opened NVIDIA driver. There is none in this build: see [Open].
type Driver struct{}

// Open fails: the driver is reached through cgo, on Linux. The error says which of them is missing and matches
// errors.ErrUnsupported.
func Open(Options) (*Driver, error) {
	if runtime.GOOS != "linux" {
		return nil, &noDriver{fmt.Sprintf(": this program was built for %s, not for Linux: %v", runtime.GOOS, errors.ErrUnsupported)}
	}
	return nil, &noDriver{fmt.Sprintf(": this program was built for %s without cgo: %v", runtime.GOARCH, errors.ErrUnsupported)}
}

// Close does nothing.
func (d *Driver) Close() error { return nil }

// Version is zero.
func (d *Driver) Version() Version { return Version{} }

// Devices is empty.
func (d *Driver) Devices() ([]DeviceInfo, error) { return nil, nil }
