// Package cuda drives NVIDIA GPUs through libcuda.so.1, which it opens at run time: nothing of CUDA is needed to build or
// to start a program that imports it, and where there is no driver, an old one or no suitable GPU, an error says what was
// found.
//
//	driver, err := cuda.Open(cuda.Options{})     // matches errors.ErrUnsupported: use the CPU
//	context, err := driver.OpenContext(0)
//	runtime.LockOSThread()
//	err = context.Use()                          // from here on this thread drives device 0
//	stream, err := context.OpenStream(cuda.StreamOptions{Name: "main"})
//	module, err := context.OpenModule("norm", image)
//	rmsnorm, err := module.Function("rmsnorm_bf16")
//	err = cuda.Launch(stream, rmsnorm, cuda.Shape{Grid: cuda.Dim{X: rows}, Block: cuda.Dim{X: 256}}, &params)
//	err = stream.Sync()
//
// # Threads
//
// The driver keeps a current context for each OS thread. Calls that make or free something need it: make them on a
// goroutine that is locked to its thread and has called [Context.Use] there. A [Stream] and what is queued on it belong to
// one goroutine at a time; an [Event] may be handed to another one to wait for. Values are not to be copied.
//
// # Order and time
//
// Work on a stream runs in the order in which its methods were called; streams run beside each other unless
// [Stream.Wait] orders them. Launches collect in memory outside the Go heap and go to the driver together, in one call
// from Go to C, as soon as there are [StreamOptions.Launches] of them or another method of the stream is called
// ([Stream.Flush] does nothing else). No launch and no copy allocates.
//
// # Errors
//
// Every failure of the driver is an [*Error]. After one that matches [ErrLost] nothing in the context works any more. It
// appears at some later call than the one that caused it, therefore it lists what had been queued on the stream since the
// last time that somebody waited for it.
//
// # Ownership
//
// Whoever opened something closes it, on a thread where the context is in use and after the work that uses it is done:
// streams, events, graphs and modules before their context, contexts before their driver. Close returns the error of the
// driver but releases what it can; a second Close does nothing and returns nil.
package cuda
