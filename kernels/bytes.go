package kernels

import "unsafe"

// AsBytes is the memory of s seen as bytes, for [Ops.Write] and [Ops.Read]: nothing is copied. T must hold no pointers.
func AsBytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
}
