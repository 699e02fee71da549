package kernels

// compiledSets are the C kernels that this CPU can run, the best first.
func compiledSets() []kernelSet { return nil }

// whyNoCompiledSets says why there are none.
const whyNoCompiledSets = "no compiled kernels yet"
