//go:build linux && cgo && (amd64 || arm64)

package cuda

// #include "driver.h"
import "C"

// Pages is physical memory of a device without an address. It is freed when it was released and is mapped nowhere.
type Pages uint64

// Granularity is the size in bytes that Reserve and all that follows count in: 2 MiB on today's GPUs.
func (c *Context) Granularity() (int, error) {
	var bytes C.size_t
	if r := C.quire_pages_granularity(c.table, c.device, &bytes); r != 0 {
		return 0, c.driver.fail(r, "reading the page size of device %d", c.device)
	}
	return int(bytes), nil
}

// Reserve takes a range of addresses, with no memory behind it, in multiples of Granularity. The caller gives it back with
// [Context.Unreserve]. Graphs and kernels that know these addresses stay valid while pages come and go.
func (c *Context) Reserve(bytes int) (Ptr, error) {
	var address C.CUdeviceptr
	if r := C.quire_cuMemAddressReserve(c.table, &address, C.size_t(bytes), 0, 0, 0); r != 0 {
		return 0, c.driver.fail(r, "reserving %d bytes of addresses", bytes)
	}
	return Ptr(address), nil
}

// Unreserve gives a range of Reserve back, whole, after everything in it was unmapped.
func (c *Context) Unreserve(at Ptr, bytes int) error {
	if r := C.quire_cuMemAddressFree(c.table, C.CUdeviceptr(at), C.size_t(bytes)); r != 0 {
		return c.driver.fail(r, "giving back %d bytes of addresses at %#x", bytes, uint64(at))
	}
	return nil
}

// CreatePages allocates physical memory, in multiples of Granularity. It is the slow one of these calls and touches no
// address, so that a thread of its own can do it ahead. The error may match ErrOutOfMemory.
func (c *Context) CreatePages(bytes int) (Pages, error) {
	var pages C.CUmemGenericAllocationHandle
	if r := C.quire_pages_create(c.table, c.device, C.size_t(bytes), &pages); r != 0 {
		return 0, c.driver.fail(r, "creating %d bytes of pages on device %d", bytes, c.device)
	}
	return Pages(pages), nil
}

// ReleasePages gives up the handle; the memory lives on where it is mapped.
func (c *Context) ReleasePages(pages Pages) error {
	if r := C.quire_cuMemRelease(c.table, C.CUmemGenericAllocationHandle(pages)); r != 0 {
		return c.driver.fail(r, "releasing pages %#x", uint64(pages))
	}
	return nil
}

// Map puts pages, whole, at an address within a reservation where nothing is mapped. They cannot be touched before
// [Context.Allow]. No work on the device may be using neighbouring addresses in a way that runs over into these.
func (c *Context) Map(at Ptr, bytes int, pages Pages) error {
	if r := C.quire_cuMemMap(c.table, C.CUdeviceptr(at), C.size_t(bytes), 0, C.CUmemGenericAllocationHandle(pages), 0); r != 0 {
		return c.driver.fail(r, "mapping pages %#x, %d bytes, at %#x", uint64(pages), bytes, uint64(at))
	}
	return nil
}

// Allow lets the device read and write a range that is mapped; one call may cover many maps side by side.
func (c *Context) Allow(at Ptr, bytes int) error {
	if r := C.quire_pages_allow(c.table, c.device, C.CUdeviceptr(at), C.size_t(bytes)); r != 0 {
		return c.driver.fail(r, "allowing access to %d bytes at %#x", bytes, uint64(at))
	}
	return nil
}

// Unmap takes whole maps away from their addresses, at once: the caller has waited for all work that could touch them.
func (c *Context) Unmap(at Ptr, bytes int) error {
	if r := C.quire_cuMemUnmap(c.table, C.CUdeviceptr(at), C.size_t(bytes)); r != 0 {
		return c.driver.fail(r, "unmapping %d bytes at %#x", bytes, uint64(at))
	}
	return nil
}
