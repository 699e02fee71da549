package model

// arena hands out zeroed memory outside the Go heap, where gigabytes of weights would let the garbage grow as large before
// it is collected. One goroutine at a time.
type arena struct {
	regions [][]byte
	free    []byte
}

const (
	arenaRegionBytes = 64 << 20 // reserved at once; the system gives pages as they are written
	arenaAlignBytes  = 64
)

// alloc returns n zeroed bytes, aligned to a cache line, that live until release.
func (a *arena) alloc(n int) ([]byte, error) {
	if n > len(a.free) {
		region, err := reserve(max(n, arenaRegionBytes))
		if err != nil {
			return nil, err
		}
		a.regions = append(a.regions, region)
		if n >= arenaRegionBytes {
			return region[:n:n], nil // a region of its own; what is left of the last one stays in use
		}
		a.free = region
	}
	out := a.free[:n:n]
	a.free = a.free[min((n+arenaAlignBytes-1)&^(arenaAlignBytes-1), len(a.free)):]
	return out, nil
}

// release gives all memory back. Nothing that alloc returned may be used after.
func (a *arena) release() error {
	var first error
	for _, r := range a.regions {
		if err := unmap(r); err != nil && first == nil {
			first = err
		}
	}
	*a = arena{}
	return first
}
