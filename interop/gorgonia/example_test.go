package gorgonia_test

import (
	"context"
	"fmt"
	"log"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/interop/gorgonia"
	"github.com/quire-llm/quire/kernels"
)

// One context, made by gorgonia. Its memory is copied by a device of Quire's and read back by gorgonia; then an engine runs on
// that device, and gorgonia's memory is as it was.
func Example() {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	gpu, err := cu.GetDevice(0)
	must(err)
	runtime.LockOSThread() // gorgonia's calls go to the context of the thread
	defer runtime.UnlockOSThread()
	ctx, err := gpu.MakeContext(cu.SchedAuto)
	must(err)
	defer ctx.Destroy()
	device, err := gorgonia.Open(ctx, kernels.Options{})
	must(err)
	defer device.Close() // before Destroy

	// Gorgonia allocates and fills, Quire copies, gorgonia reads.
	tensor := []float32{1, 2, 3, 5, 8, 13, 21, 34}
	bytes := len(tensor) * int(unsafe.Sizeof(tensor[0]))
	theirs, err := cu.MemAlloc(int64(bytes))
	must(err)
	must(cu.MemcpyHtoD(theirs, unsafe.Pointer(&tensor[0]), int64(bytes)))
	wrapped, err := gorgonia.Wrap(device, theirs, bytes)
	must(err)
	ours, err := device.Alloc(bytes)
	must(err)
	must(device.Do(context.Background(), func(o kernels.Ops) error { return o.Copy(ours, wrapped) }))
	must(cu.Synchronize()) // the copy may still be running
	pointer, err := gorgonia.Pointer(device, ours)
	must(err)
	back := make([]float32, len(tensor))
	must(cu.MemcpyDtoH(unsafe.Pointer(&back[0]), pointer, int64(bytes)))
	fmt.Println("copied by Quire:", back)

	// An engine in the same context.
	e, err := engine.Open(context.Background(), engine.Options{Model: "../../model/tiny/qwen3", Device: device})
	must(err)
	question := "Rosa has 94 balls. Then Rosa finds 27 more balls. How many balls does Rosa have now?"
	for token, err := range e.Generate(context.Background(), engine.Request{Messages: []engine.Message{{Role: "user", Content: question}}}) {
		must(err)
		fmt.Print(token.Text)
	}
	fmt.Println()
	must(e.Close())

	clear(back)
	must(cu.MemcpyDtoH(unsafe.Pointer(&back[0]), theirs, int64(bytes)))
	fmt.Println("still gorgonia's:", back)
	device.Free(wrapped) // ignored
	device.Free(ours)
	must(cu.MemFree(theirs))
	// Output:
	// copied by Quire: [1 2 3 5 8 13 21 34]
	// 94 + 27 = 121.
	// #### 121
	// still gorgonia's: [1 2 3 5 8 13 21 34]
}
