package cuda

// TensorMap tells the copy engine where tiles of a matrix lie. Its bits are the driver's: see [Driver.MapTiles]. Kernels take
// it by value.
type TensorMap [16]uint64
