package sysinfo

import (
	"bufio"
	"io/fs"
	"strconv"
	"strings"
)

// The functions of this file read Linux's text files below root, which is "/" or a test's copy.

// readCPUModel is the processor's name, or what ARM machines say instead of one.
func readCPUModel(root fs.FS) string {
	fields := readFields(root, "proc/cpuinfo", ":")
	for _, key := range []string{"model name", "Model", "Hardware", "CPU part"} {
		if fields[key] != "" {
			return fields[key]
		}
	}
	return ""
}

func readDistribution(root fs.FS) string {
	return strings.Trim(readFields(root, "etc/os-release", "=")["PRETTY_NAME"], `"`)
}

// readMemory is what /proc/meminfo says, or less where a control group allows less.
func readMemory(root fs.FS) Memory {
	info := readFields(root, "proc/meminfo", ":")
	m := Memory{TotalBytes: kilobytes(info["MemTotal"]), AvailableBytes: kilobytes(info["MemAvailable"])}
	for _, group := range []struct{ limit, used, stat, reclaimable string }{
		{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat", "inactive_file"},
		{"sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes", "sys/fs/cgroup/memory/memory.stat", "total_inactive_file"},
	} {
		limit, err := strconv.ParseInt(readLine(root, group.limit), 10, 64)
		if err != nil || limit <= 0 || limit >= m.TotalBytes {
			continue // no such version, "max", or version 1's way to say that there is no limit
		}
		m.TotalBytes = limit
		used, err := strconv.ParseInt(readLine(root, group.used), 10, 64)
		if err != nil {
			continue
		}
		cached, _ := strconv.ParseInt(readFields(root, group.stat, " ")[group.reclaimable], 10, 64)
		m.AvailableBytes = min(m.AvailableBytes, max(limit-used+cached, 0))
	}
	return m
}

func readProcess(root fs.FS) Process {
	status := readFields(root, "proc/self/status", ":")
	p := Process{RSSBytes: kilobytes(status["VmRSS"]), PeakRSSBytes: kilobytes(status["VmHWM"])}
	p.PeakRSSBytes = max(p.PeakRSSBytes, p.RSSBytes) // the kernel updates it now and then only
	return p
}

// readLine is the first line of a file, trimmed; "" if it cannot be read.
func readLine(root fs.FS, name string) string {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// readFields reads lines of key, separator, value. The first of equal keys counts (cpuinfo repeats them for each core).
func readFields(root fs.FS, name, separator string) map[string]string {
	fields := map[string]string{}
	file, err := root.Open(name)
	if err != nil {
		return fields
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), separator)
		key = strings.TrimSpace(key)
		if _, seen := fields[key]; found && !seen {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}

// kilobytes parses "16316412 kB" into bytes; 0 if it is something else.
func kilobytes(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
