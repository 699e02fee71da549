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
	// ErrNoDriver says that there is no NVIDIA driver here at all, or that this build could not use one.
	ErrNoDriver = errors.New("cuda: no driver")
	// ErrClosed says that a driver, context, stream or other object was closed before.
	ErrClosed = errors.New("cuda: already closed")
)

// noDriver is an error that matches ErrNoDriver and errors.ErrUnsupported.
type noDriver struct{ text string }

func (e *noDriver) Error() string { return "cuda: opening the driver" + e.text }

func (e *noDriver) Is(target error) bool {
	return target == ErrNoDriver || target == errors.ErrUnsupported
}

// Result is a code of the driver, a CUresult.
type Result int

// The results that mean something here.
const (
	codeInvalidValue         Result = 1
	codeOutOfMemory          Result = 2
	codeDeinitialized        Result = 4
	codeStubLibrary          Result = 34
	codeNeedsNewerDriver     Result = 36
	codeDeviceUnavailable    Result = 46
	codeNoDevice             Result = 100
	codeNoBinaryForGPU       Result = 209
	codeECCUncorrectable     Result = 214
	codeNVLinkUncorrectable  Result = 220
	codeUnsupportedPTX       Result = 222
	codeContained            Result = 226
	codeNotReady             Result = 600
	codeIllegalAddress       Result = 700
	codeLaunchTimeout        Result = 702
	codeContextDestroyed     Result = 709
	codeAssert               Result = 710
	codeHardwareStackError   Result = 714
	codeIllegalInstruction   Result = 715
	codeMisalignedAddress    Result = 716
	codeInvalidAddressSpace  Result = 717
	codeInvalidPC            Result = 718
	codeLaunchFailed         Result = 719
	codeTensorMemoryLeak     Result = 721
	codeNotSupported         Result = 801
	codeSystemNotReady       Result = 802
	codeSystemDriverMismatch Result = 803
	codeCompatNotSupported   Result = 804
	codeGraphUpdateFailure   Result = 910
	codeExternalDevice       Result = 911
	codeUnknown              Result = 999
)

// lost says whether the code is one after which the context is of no use.
func (r Result) lost() bool {
	switch r {
	case codeDeinitialized, codeECCUncorrectable, codeNVLinkUncorrectable, codeContained, codeIllegalAddress,
		codeLaunchTimeout, codeContextDestroyed, codeAssert, codeHardwareStackError, codeIllegalInstruction,
		codeMisalignedAddress, codeInvalidAddressSpace, codeInvalidPC, codeLaunchFailed, codeTensorMemoryLeak,
		codeExternalDevice, codeUnknown:
		return true
	}
	return false
}

// unsupported says whether the code is one that another machine or driver would not give.
func (r Result) unsupported() bool {
	switch r {
	case codeStubLibrary, codeNeedsNewerDriver, codeDeviceUnavailable, codeNoDevice, codeNoBinaryForGPU,
		codeUnsupportedPTX, codeNotSupported, codeSystemNotReady, codeSystemDriverMismatch, codeCompatNotSupported:
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
		return e.Code == codeOutOfMemory
	case ErrLost:
		return e.Code.lost()
	case ErrGraphDiffers:
		return e.Code == codeGraphUpdateFailure
	case errors.ErrUnsupported:
		return e.Code.unsupported()
	}
	return false
}
