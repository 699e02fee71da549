package kernels

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// processorName is the model name of the first processor.
func processorName() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	if name := field(info, "model name", ":"); name != "" {
		return name
	}
	return runtime.GOARCH
}

// machineMemory is the memory of the machine and what of it can still be had, the control group's limit included.
func machineMemory() (total, available int64) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	total, available = kibibytes(field(info, "MemTotal", ":")), kibibytes(field(info, "MemAvailable", ":"))
	if left, ok := groupMemory(); ok {
		available = min(available, left)
	}
	return total, available
}

// groupMemory is what this process's control group (version 2) and those above it leave free; file cache counts as free,
// since it is given up on demand.
func groupMemory() (left int64, limited bool) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for dir := path.Join("/sys/fs/cgroup", field(groups, "0:", ":")); ; dir = path.Dir(dir) {
		if limit, ok := readInt(path.Join(dir, "memory.max")); ok {
			used, _ := readInt(path.Join(dir, "memory.current"))
			stat, _ := os.ReadFile(path.Join(dir, "memory.stat"))
			cache, _ := strconv.ParseInt(field(stat, "inactive_file", " "), 10, 64)
			here := max(limit-used+cache, 0)
			if !limited || here < left {
				left, limited = here, true
			}
		}
		if len(dir) <= len("/sys/fs/cgroup") {
			return left, limited
		}
	}
}

// field is the text after the separator on the first line that begins with name.
func field(text []byte, name, separator string) string {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			if _, value, ok := strings.Cut(rest, separator); ok {
				return strings.TrimSpace(value)
			}
		}
	}
	return ""
}

// kibibytes reads "123 kB" as bytes; 0 if it is not that.
func kibibytes(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	return n * 1024
}

// readInt is the number in a file; false if there is none, as in a limit of "max".
func readInt(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
