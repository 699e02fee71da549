package sysinfo

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func files(pairs ...string) fstest.MapFS {
	root := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		root[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return root
}

func TestCPUModel(t *testing.T) {
	for name, c := range map[string]struct{ cpuinfo, want string }{
		"x86, first core counts": {"processor\t: 0\nmodel name\t: AMD EPYC 9654\n\nprocessor\t: 1\nmodel name\t: other\n", "AMD EPYC 9654"},
		"raspberry":              {"processor\t: 0\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4\n", "Raspberry Pi 4"},
		"arm server":             {"processor\t: 0\nCPU part\t: 0xd40\n", "0xd40"},
		"nothing known":          {"processor\t: 0\n", ""},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, readCPUModel(files("proc/cpuinfo", c.cpuinfo))) })
	}
	require.Equal(t, "", readCPUModel(files()))
}

func TestMemory(t *testing.T) {
	meminfo := "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"
	const total, available = 16000000 << 10, 12000000 << 10
	v2 := func(limit string) []string {
		return []string{"proc/meminfo", meminfo, "sys/fs/cgroup/memory.max", limit,
			"sys/fs/cgroup/memory.current", "3000000000\n", "sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 500000000\n"}
	}
	for name, c := range map[string]struct {
		files []string
		want  Memory
	}{
		"machine":                 {[]string{"proc/meminfo", meminfo}, Memory{total, available}},
		"group without limit":     {v2("max\n"), Memory{total, available}},
		"group with limit":        {v2("4000000000\n"), Memory{4000000000, 1500000000}},
		"group above machine":     {v2("99000000000\n"), Memory{total, available}},
		"version 1 with limit":    {[]string{"proc/meminfo", meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000000", "sys/fs/cgroup/memory/memory.usage_in_bytes", "2500000000"}, Memory{2000000000, 0}},
		"version 1 without":       {[]string{"proc/meminfo", meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"}, Memory{total, available}},
		"nothing known":           {nil, Memory{}},
		"limit without its usage": {[]string{"proc/meminfo", meminfo, "sys/fs/cgroup/memory.max", "4000000000"}, Memory{4000000000, available}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, readMemory(files(c.files...))) })
	}
}

func TestProcess(t *testing.T) {
	got := readProcess(files("proc/self/status", "Name:\tquire\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"))
	require.Equal(t, Process{RSSBytes: 1 << 20, PeakRSSBytes: 2 << 20}, got)
}

func TestDistribution(t *testing.T) {
	require.Equal(t, "Debian GNU/Linux 12", readDistribution(files("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n")))
}

func TestBuildFromInfo(t *testing.T) {
	stamped := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}}
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want Build
	}{
		"built here":      {debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "(devel)"}, Settings: stamped}, Build{Commit: "abc", Modified: true, Time: "2026-01-02T03:04:05Z"}},
		"installed":       {debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "v1.2.3"}}, Build{Version: "v1.2.3", Commit: "unknown"}},
		"in another's":    {debug.BuildInfo{Main: debug.Module{Path: "example.com/x"}, Deps: []*debug.Module{{Path: modulePath, Version: "v1.0.0"}}, Settings: stamped}, Build{Version: "v1.0.0", Commit: "unknown"}},
		"nothing stamped": {debug.BuildInfo{}, Build{Commit: "unknown"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, buildFromInfo(&c.info)) })
	}
}

func TestAskGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	run := func(args ...string) {
		t.Helper()
		command := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := command.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	write := func(name, text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o600)) }

	t.Chdir(t.TempDir())
	t.Setenv("GIT_CEILING_DIRECTORIES", "/")
	b := Build{Commit: "unknown"}
	b.askGit(t.Context())
	require.Equal(t, "unknown", b.Commit, "not a repository")

	run("init", "-q")
	write("go.mod", "module example.com/other\n")
	run("add", "go.mod")
	run("commit", "-q", "-m", "one")
	b.askGit(t.Context())
	require.Equal(t, "unknown", b.Commit, "another project")

	write("go.mod", "module "+modulePath+"\n\ngo 1.26\n")
	run("commit", "-q", "-a", "-m", "two")
	b.askGit(t.Context())
	require.Len(t, b.Commit, 40)
	require.False(t, b.Modified)
	require.NotEmpty(t, b.Time)

	write("new.go", "package x\n")
	b.askGit(t.Context())
	require.True(t, b.Modified)
}

func TestCollectOnThisMachine(t *testing.T) {
	e := Collect(t.Context())
	require.Equal(t, runtime.Version(), e.Go)
	require.Equal(t, runtime.NumCPU(), e.LogicalCores)
	require.NotEmpty(t, e.Build.Commit)
	if runtime.GOOS == "linux" {
		require.Positive(t, e.MemoryBytes)
		require.Positive(t, e.MemoryAvailableBytes)
		require.LessOrEqual(t, e.MemoryAvailableBytes, e.MemoryBytes)
		require.NotEmpty(t, e.Kernel)
		p := ReadProcess()
		require.Positive(t, p.RSSBytes)
		require.GreaterOrEqual(t, p.PeakRSSBytes, p.RSSBytes)
	}
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(text), `"logical_cores":`)
}

func TestFindGPU(t *testing.T) {
	const version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Aug 12 00:00:00 UTC 2025\nGCC version: 12.2\n"
	for name, c := range map[string]struct {
		files []string
		path  string
		want  GPU
	}{
		"none":                             {nil, "", GPU{Names: []string{}}},
		"driver and GPUs":                  {[]string{"proc/driver/nvidia/version", version, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H100\nIRQ: 5\n", "proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: NVIDIA L4\n", "usr/lib64/libcuda.so.1", ""}, "", GPU{Names: []string{"NVIDIA H100", "NVIDIA L4"}, Driver: "580.159.04", Library: "/usr/lib64/libcuda.so.1"}},
		"library of the user's path first": {[]string{"opt/cuda/libcuda.so.1", "", "usr/lib64/libcuda.so.1", ""}, "::/nowhere:/opt/cuda", GPU{Names: []string{}, Library: "/opt/cuda/libcuda.so.1"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, findGPU(files(c.files...), c.path)) })
	}
}

func TestFreeBytes(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("this system does not tell")
	}
	free, err := FreeBytes(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, free)
	_, err = FreeBytes("/no/such/folder")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSum(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 100} {
		words := make([]uint64, n)
		for i := range words {
			words[i] = uint64(i)
		}
		require.Equal(t, uint64(n*max(n-1, 0)/2), sum(words), "%d words", n)
	}
	require.Positive(t, ReadBandwidth(1<<16, 2))
}

func TestCPUFeatures(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		require.Contains(t, CPUFeatures(), "asimd")
	}
	for _, name := range CPUFeatures() {
		require.Regexp(t, `^[a-z0-9-]+$`, name)
	}
}

func TestSumOfMebibytes(t *testing.T) {
	for text, want := range map[string]int64{
		"3\n": 3 << 20, "3\n81000\n": 81003 << 20, "": -1, "[N/A]\n": -1, "3\n[N/A]\n": -1,
	} {
		if got := sumOfMebibytes(text); got != want {
			t.Errorf("sumOfMebibytes(%q): got %d, want %d", text, got, want)
		}
	}
}
