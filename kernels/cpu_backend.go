package kernels

import (
	"fmt"
	"runtime"
)

// openCPU starts a CPU device of the kernel set that the options want.
func openCPU(o Options) (backend, Info, error) {
	if o.Threads < 0 {
		return nil, Info{}, fmt.Errorf("kernels: opening device \"cpu\": %d threads", o.Threads)
	}
	set, reason, err := chooseKernelSet(o.KernelSet, o.Float32)
	if err != nil {
		return nil, Info{}, err
	}
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	c, err := newCPU(set, threads, &memory{})
	if err != nil {
		return nil, Info{}, err
	}
	return c, Info{
		Kind:         "cpu",
		Name:         processorName(),
		KernelSet:    set.name,
		Products:     set.products(),
		KernelReason: reason,
		Threads:      threads,

		SharedAttention: true,
	}, nil
}

func (c *cpu) begin() error { return nil }

func (c *cpu) prepare() (Ops, error) { return c, nil }

// settle has nothing to do: operations are done when they return.
func (c *cpu) settle() error { return nil }

func (c *cpu) memoryBytes() (total, available int64) { return machineMemory() }

func (c *cpu) activationBytes() int { return 4 }

func (c *cpu) alloc(bytes int) (Buffer, error) { return c.memory.alloc(bytes) }

func (c *cpu) free(b Buffer) { c.memory.free(b) }

// upload copies nothing: the host's memory is the device's.
func (c *cpu) upload(host []byte) (Buffer, error) { return bufferOf(host), nil }

func (c *cpu) close() {
	c.pool.close()
	c.memory.freeAll()
}
