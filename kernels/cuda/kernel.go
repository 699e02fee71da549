package cuda

//go:generate go run ./internal/genparams

// String is the name of the entry point.
func (k Kernel) String() string { return kernelTable[k].name }

// Image is the name of the image that has it.
func (k Kernel) Image() string { return kernelTable[k].image }

// ParamsBytes is the size of the struct that it takes.
func (k Kernel) ParamsBytes() int { return kernelTable[k].paramsBytes }

// SharedBytes is the most dynamic shared memory that a launch of it asks for.
func (k Kernel) SharedBytes() int {
	if t := wideTilesOf(k); t != nil {
		return t.sharedBytes()
	}
	switch k {
	case GemmLargeBF16:
		return GemmLargeShared
	case GemmSmallBF16, MoEGemmBF16:
		return GemmSmallShared
	case AttendDecodeBF16D64, AttendDecodeBF16D128:
		return AttendDecodeShared
	case AttendDecodeFP8D128:
		return AttendDecodeSharedFP8
	case AttendPrefillBF16D64, AttendPrefillFP8D64:
		return AttendShared64
	case AttendPrefillBF16D128, AttendPrefillFP8D128:
		return AttendShared128
	case AttendPrefillBF16D256, AttendPrefillFP8D256:
		return AttendShared256
	}
	if g := gemvOf(k); g != nil && g.normed {
		return g.sharedBytes() + GemvNormBytes
	} else if g != nil {
		return g.sharedBytes()
	}
	return 0
}
