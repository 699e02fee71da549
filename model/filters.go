package model

import (
	"fmt"

	"github.com/quire-llm/quire/kernels"
)

// Filters are what the rows of a sampling ask for besides their temperatures; see kernels.SampleFilter. The zero value is
// none.
type Filters struct {
	Rows   []kernels.SampleFilter // [rows], or nil
	Biases []kernels.TokenBias    // as many as Rows refer to
	Counts []kernels.TokenCount   // likewise
}

// filterBuffers are the device's copies. Biases and counts grow with what is asked for.
type filterBuffers struct {
	rows, biases, counts kernels.Buffer
}

// copyFilters brings filters to the device.
func (m *Model) copyFilters(ops kernels.Ops, filters Filters, rows int) (b filterBuffers, err error) {
	if filters.Rows == nil {
		return b, nil
	}
	if len(filters.Rows) != rows {
		return b, fmt.Errorf("model: sampling: got filters for %d rows and parameters for %d", len(filters.Rows), rows)
	}
	if b.rows, err = copyTo(m, ops, &m.filters.rows, filters.Rows); err != nil {
		return b, err
	}
	if b.biases, err = copyTo(m, ops, &m.filters.biases, filters.Biases); err != nil {
		return b, err
	}
	b.counts, err = copyTo(m, ops, &m.filters.counts, filters.Counts)
	return b, err
}

// copyTo copies data to the device, into b, which is made larger if need be.
func copyTo[T any](m *Model, ops kernels.Ops, b *kernels.Buffer, data []T) (kernels.Buffer, error) {
	bytes := kernels.AsBytes(data)
	if len(bytes) > b.Bytes() {
		larger, err := m.device.Alloc(2 * len(bytes))
		if err != nil {
			return kernels.Buffer{}, fmt.Errorf("model: sampling: making room for filters: %w", err)
		}
		m.device.Free(*b)
		*b = larger
	}
	dst := b.Slice(0, len(bytes))
	if len(bytes) == 0 {
		return dst, nil
	}
	if err := ops.Write(dst, bytes); err != nil {
		return kernels.Buffer{}, fmt.Errorf("model: sampling: %w", err)
	}
	return dst, nil
}

// free gives the memory back.
func (b *filterBuffers) free(device *kernels.Device) {
	for _, buffer := range []*kernels.Buffer{&b.rows, &b.biases, &b.counts} {
		device.Free(*buffer)
		*buffer = kernels.Buffer{}
	}
}
