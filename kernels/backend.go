package kernels

// backend is a kind of device: its memory and its operations. The methods of the first group are called from any
// goroutine, those of the second only on the goroutine that owns the device. An error that matches ErrDevice ends the device.
type backend interface {
	alloc(bytes int) (Buffer, error)
	free(b Buffer)
	upload(host []byte) (Buffer, error)
	memoryBytes() (total, available int64) // 0 if unknown
	activationBytes() int

	begin() error          // the goroutine, locked to a thread that is new to the device, owns it from now on
	prepare() (Ops, error) // before each Do: waits for uploads
	settle() error         // after each Do: hands over to the device what was queued
	close()                // frees everything
}
