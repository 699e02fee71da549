package kernels

// Transferer is what Ops may be besides: it copies between the host and the device beside the operations. Ops that have it are
// found by assertion.
type Transferer interface {
	// TransferOut queues a copy to the host, and TransferIn one to the device. It begins when all operations that were queued so
	// far are done; those that are queued later run at the same time, and leave the device's side alone until Wait has returned.
	// So does everybody the host's. Memory of [Device.AllocHost] is copied while the call returns at once; with other memory the
	// call takes as long as the copy. Every transfer is waited for once.
	TransferOut(dst []byte, src Buffer) (Pending, error)
	TransferIn(dst Buffer, src []byte) (Pending, error)
}

// pinner is a backend that copies faster from and to memory of its own making.
type pinner interface {
	allocHost(bytes int) ([]byte, error)
	freeHost(host []byte)
}

// AllocHost returns bytes of the host's memory, with anything in them, that transfers go through at full speed: on CUDA it is
// page-locked and outside the Go heap, so that it takes a while to make, and the caller must not append to it. The caller gives it
// back with FreeHost before Close. The error matches [ErrNoMemory].
func (d *Device) AllocHost(bytes int) ([]byte, error) {
	if p, ok := d.backend.(pinner); ok {
		return p.allocHost(bytes)
	}
	return make([]byte, bytes), nil
}

// FreeHost gives memory of AllocHost back, whole. The caller knows that no transfer uses it. Nil is ignored.
func (d *Device) FreeHost(host []byte) {
	if p, ok := d.backend.(pinner); ok && len(host) > 0 {
		p.freeHost(host)
	}
}
