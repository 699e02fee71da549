package sysinfo

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// GPU is what this machine says about NVIDIA GPUs without any of their libraries being opened.
type GPU struct {
	Names   []string `json:"names"`             // one for each GPU that the driver drives
	Driver  string   `json:"driver,omitempty"`  // its version; "" where no driver is loaded
	Library string   `json:"library,omitempty"` // path of libcuda.so.1; "" where it was not found
}

// libraryFolders are where the dynamic linker finds libcuda.so.1 on common distributions and in containers.
var libraryFolders = []string{
	"usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "lib64",
	"usr/local/nvidia/lib64", "usr/local/nvidia/lib", "usr/local/cuda/compat", "usr/lib/wsl/lib",
}

// FindGPU looks for NVIDIA GPUs, their driver and its library.
func FindGPU() GPU { return findGPU(os.DirFS("/"), os.Getenv("LD_LIBRARY_PATH")) }

func findGPU(root fs.FS, libraryPath string) GPU {
	g := GPU{Names: []string{}}
	// NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue ...
	for _, word := range strings.Fields(readLine(root, "proc/driver/nvidia/version")) {
		if word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") {
			g.Driver = word
			break
		}
	}
	gpus, _ := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	for _, file := range gpus {
		g.Names = append(g.Names, readFields(root, file, ":")["Model"])
	}
	for _, dir := range append(strings.Split(libraryPath, ":"), libraryFolders...) {
		name := path.Join(strings.TrimPrefix(dir, "/"), "libcuda.so.1")
		if dir == "" {
			continue
		}
		if _, err := fs.Stat(root, name); err == nil {
			g.Library = "/" + name
			break
		}
	}
	return g
}

// ReadGPUMemoryUsed is how many bytes are in use on all NVIDIA GPUs together, as nvidia-smi tells it: asking the driver
// itself would take some. -1 if there is no such program or it tells something else.
func ReadGPUMemoryUsed(ctx context.Context) int64 {
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return -1
	}
	return sumOfMebibytes(string(out))
}

// sumOfMebibytes adds up lines that are a number each; -1 if one is not, or there is none.
func sumOfMebibytes(text string) int64 {
	lines := strings.Fields(text)
	sum := int64(0)
	for _, line := range lines {
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return -1
		}
		sum += n << 20
	}
	if len(lines) == 0 {
		return -1
	}
	return sum
}
