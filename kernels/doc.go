// Package kernels owns the devices and runs the operations of a transformer on them.
//
// It is the only package that uses cgo, SIMD or a driver. An operation is as coarse as its best kernel: about ten params
// structs give the shapes and the points where values are rounded. Every operation has a plain-Go twin in kernels/ref,
// which also is what runs where there is no C compiler.
//
// # Numbers
//
// Weights are bfloat16 (see [Format]). Activations are float32 on the CPU and nothing is rounded between operations; on
// CUDA they are bfloat16 and rounding follows the reference (RMSNorm in float32, cast to bfloat16, then times weight).
// Logits are float32 everywhere.
//
// # Order of sums
//
// On the CPU a row's bits depend neither on the rows beside it, nor on how a prompt is cut into steps, nor on the number
// of threads: every sum has an order fixed by its own length alone.
package kernels
