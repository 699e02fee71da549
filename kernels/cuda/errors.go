package cuda

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers tell apart; an [*Error] matches them by its code. Those that say that the machine, the driver or the
// GPU lacks something match errors.ErrUnsupported.
var (
	// ErrOutOfMemory says that the device, or the host for pinned memory, has too little memory for an allocation.
	ErrOutOfMemory = errors.New("cuda: out of memory")
	// ErrLost says that the context cannot be used any more, as after a kernel that touched memory that is not there:
	// every later call in it fails in the same way.
	ErrLost = errors.New("cuda: the context is lost")
	// ErrGraphDiffers says that an executable graph could not take over another graph: make a new one from it.
	ErrGraphDiffers = errors.New("cuda: the graphs differ")
	// ErrClosed says that a driver, context, stream or other object was closed before.
	ErrClosed = errors.New("cuda: already closed")
)

// Result is a code of the driver, a CUresult. The constants are those that this package branches on.
type Result int

// The results that mean something to this package.
const (
	Success              Result = 0
	InvalidValue         Result = 1
	OutOfMemory          Result = 2
	Deinitialized        Result = 4
	StubLibrary          Result = 34
	NeedsNewerDriver     Result = 36
	DeviceUnavailable    Result = 46
	NoDevice             Result = 100
	NoBinaryForGPU       Result = 209
	ECCUncorrectable     Result = 214
	NVLinkUncorrectable  Result = 220
	UnsupportedPTX       Result = 222
	Contained            Result = 226
	NotReady             Result = 600
	IllegalAddress       Result = 700
	LaunchTimeout        Result = 702
	ContextDestroyed     Result = 709
	Assert               Result = 710
	HardwareStackError   Result = 714
	IllegalInstruction   Result = 715
	MisalignedAddress    Result = 716
	InvalidAddressSpace  Result = 717
	InvalidPC            Result = 718
	LaunchFailed         Result = 719
	TensorMemoryLeak     Result = 721
	NotSupported         Result = 801
	SystemNotReady       Result = 802
	SystemDriverMismatch Result = 803
	CompatNotSupported   Result = 804
	GraphUpdateFailure   Result = 910
	ExternalDevice       Result = 911
	Unknown              Result = 999
)

// lost says whether the code is one after which the context is of no use.
func (r Result) lost() bool {
	switch r {
	case Deinitialized, ECCUncorrectable, NVLinkUncorrectable, Contained, IllegalAddress, LaunchTimeout, ContextDestroyed,
		Assert, HardwareStackError, IllegalInstruction, MisalignedAddress, InvalidAddressSpace, InvalidPC, LaunchFailed,
		TensorMemoryLeak, ExternalDevice, Unknown:
		return true
	}
	return false
}

// unsupported says whether the code is one that another machine or driver would not give.
func (r Result) unsupported() bool {
	switch r {
	case StubLibrary, NeedsNewerDriver, DeviceUnavailable, NoDevice, NoBinaryForGPU, UnsupportedPTX, NotSupported,
		SystemNotReady, SystemDriverMismatch, CompatNotSupported:
		return true
	}
	return false
}

// Error is a failure that the driver reported.
type Error struct {
	Doing string // what failed, to which: `launching "rmsnorm_bf16"`
	Code  Result
	Name  string // of the code: "CUDA_ERROR_ILLEGAL_ADDRESS"
	Text  string // the driver's own words
	Log   string // of the compiler inside the driver, for modules; often empty
	// Queued lists, oldest first, what was queued on the stream since somebody last waited for it, the failed call
	// included; a run of equals is one line with a count. It is there for waits and for errors that match ErrLost: any
	// of these may be the cause. Long lists keep their end and begin with a count of what came earlier.
	Queued []string
}

// Error is all of it in one line, or more where there is a log.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cuda: %s: %s: %s", e.Doing, e.Name, e.Text)
	if len(e.Queued) > 0 {
		fmt.Fprintf(&b, " (queued since the last wait: %s)", strings.Join(e.Queued, ", "))
	}
	if e.Log != "" {
		b.WriteString("\n")
		b.WriteString(e.Log)
	}
	return b.String()
}

// Is matches ErrOutOfMemory, ErrLost, ErrGraphDiffers and errors.ErrUnsupported by the code.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrOutOfMemory:
		return e.Code == OutOfMemory
	case ErrLost:
		return e.Code.lost()
	case ErrGraphDiffers:
		return e.Code == GraphUpdateFailure
	case errors.ErrUnsupported:
		return e.Code.unsupported()
	}
	return false
}
