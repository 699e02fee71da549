//go:build notiny

package tiny

// weights are left out, for a program that has to be small.
var weights []byte
