package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Bytes is a size as people read it, in powers of 1024.
func Bytes(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for ; size >= 1024 && unit < len(units)-1; unit++ {
		size /= 1024
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// parseBytes reads a size: a whole number, and B (or nothing), KiB, MiB, GiB or TiB. "" is 0.
func parseBytes(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits := strings.TrimRight(text, "KMGTiB ")
	n, err := strconv.ParseInt(digits, 10, 64)
	power := slices.Index([]string{"B", "KiB", "MiB", "GiB", "TiB"}, strings.TrimSpace(text[len(digits):]))
	if digits == text {
		power = 0
	}
	if err != nil || n < 0 || power < 0 || n > math.MaxInt64>>(10*power) {
		return 0, UsageError("write it as in 512MiB or 20GiB", "--%s must be a size, got %q", flag, text)
	}
	return n << (10 * power), nil
}
