package kernels

// Options say which device to open. The zero value is the best one found.
type Options struct {
	// Device is "cpu", "cuda" or "" for the best one found.
	Device string
	// Threads is the number of CPU worker threads. 0: one for each core.
	Threads int
	// KernelSet forces a CPU kernel set: "avx512bf16", "avx2", "portable" or "go". "": the best that this CPU runs.
	KernelSet string
}

// Device is an accelerator or the CPU, opened once in a process and shared by its engines. It owns the memory pool, the
// worker threads and the goroutine, locked to an OS thread, that submits work.
type Device struct{}
