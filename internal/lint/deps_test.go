package lint

import (
	"strings"
	"testing"
)

// layers is the statement of policy: the packages of this module that a folder's files may import. The first rule whose
// folder is a prefix of the file's folder counts. "std" alone means: nothing of this module and nothing from elsewhere.
// Test files may import more (fakes, built-in models), but never upwards in a way that makes a cycle, which Go forbids.
var layers = []struct {
	folder string
	allow  []string // folders of this module, each with everything below it
	others []string // modules from elsewhere, by prefix
}{
	{"kvcache/kvcachetest", []string{"kvcache"}, nil},
	{"kvcache", []string{"kvcache"}, nil},
	{"kernels/ref", nil, nil},
	{"kernels/cuda", nil, nil},
	{"kernels", []string{"kernels"}, []string{"golang.org/x/sys/"}},
	{"attention", []string{"kernels", "kvcache"}, nil},
	{"model/tokenizer", nil, []string{"golang.org/x/text/"}},
	{"model/chat", nil, []string{"github.com/nikolalohinski/gonja/v2"}},
	{"model/tiny", []string{"model"}, nil},
	{"model/synthetic", []string{"model", "model/tiny"}, nil},
	{"model", []string{"attention", "kernels", "kvcache", "internal/spelling"}, []string{"golang.org/x/sys/", "golang.org/x/sync/"}},
	{"engine", []string{"model", "model/tokenizer", "model/chat", "attention", "kernels", "kvcache"}, []string{"golang.org/x/sync/"}},
	{"internal/pyrand", nil, nil},
	{"internal/stats", nil, nil},
	{"internal/sysinfo", nil, []string{"golang.org/x/sys/"}},
	{"internal/golden", nil, nil},
	{"internal/hub/hubbar", []string{"internal/hub"}, []string{"github.com/vbauerster/mpb/", "golang.org/x/term"}},
	{"internal/hub", []string{"internal/spelling"}, []string{"golang.org/x/sys/", "golang.org/x/sync/"}},
	{"internal/lint", nil, nil},
	{"internal/spelling", nil, nil},
}

// programs may import everything below them.
var programs = []string{"cmd", "bench", "server", "internal/cli"}

func within(folder, of string) bool { return folder == of || strings.HasPrefix(folder, of+"/") }

// judge says what is wrong with a file in folder importing path; "" is nothing.
func judge(folder, path string) string {
	local, inModule := strings.CutPrefix(path, module+"/")
	standard := !inModule && !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
	if path == "C" {
		if within(folder, "kernels") {
			return ""
		}
		return "only kernels may use cgo"
	}
	if path == "unsafe" {
		switch {
		case within(folder, "kernels"), within(folder, "model"), within(folder, "attention"):
			return ""
		}
		return "only kernels, attention and model may use unsafe"
	}
	if standard {
		return ""
	}
	for _, p := range programs {
		if within(folder, p) {
			if inModule && p != "cmd" && within(local, "cmd") {
				return "nothing imports cmd"
			}
			return ""
		}
	}
	for _, l := range layers {
		if !within(folder, l.folder) {
			continue
		}
		if inModule {
			// Importers of engine shall not carry the built-in model: below the programs it must be allowed by its own name.
			builtIn := within(local, "model/tiny") || within(local, "model/synthetic")
			if within(local, l.folder) && (!builtIn || l.folder != "model") {
				return ""
			}
			for _, a := range l.allow {
				if within(local, a) && (!builtIn || a != "model") {
					return ""
				}
			}
			return "not below " + l.folder + " in the picture of docs/architecture.md"
		}
		for _, o := range l.others {
			if strings.HasPrefix(path, o) {
				return ""
			}
		}
		return "not among the modules that " + l.folder + " may use"
	}
	return "its folder has no rule in internal/lint/deps_test.go"
}

// testOnly are modules that any test file may use.
var testOnly = []string{
	"github.com/stretchr/testify/", "pgregory.net/rapid", "go.uber.org/goleak", "github.com/pkoukk/tiktoken-go",
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		for _, path := range s.imports {
			if s.test {
				if path == "C" && !within(s.folder, "kernels") {
					t.Errorf("%s imports %q: only kernels may use cgo", s.path, path)
				}
				if within(s.folder, "kvcache") || within(s.folder, "kernels") {
					if why := judge(s.folder, path); why != "" && !allowedInTests(path) {
						t.Errorf("%s imports %q: %s", s.path, path, why)
					}
				}
				continue
			}
			if why := judge(s.folder, path); why != "" {
				t.Errorf("%s imports %q: %s", s.path, path, why)
			}
		}
	}
}

func allowedInTests(path string) bool {
	for _, p := range testOnly {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return path == "unsafe"
}

// TestLayersRefuse shows that the rules can fail: each of these imports must be refused.
func TestLayersRefuse(t *testing.T) {
	for _, c := range []struct{ folder, path string }{
		{"kvcache", module + "/kernels"},
		{"kvcache", "golang.org/x/sys/unix"},
		{"kvcache/kvcachetest", module + "/engine"},
		{"kernels", module + "/kvcache"},
		{"kernels/ref", module + "/kernels"},
		{"kernels/cuda", module + "/kernels"},
		{"attention", module + "/model"},
		{"model", module + "/engine"},
		{"model", module + "/model/tiny"},
		{"engine", module + "/model/tiny"},
		{"engine", module + "/bench/internal/suite"},
		{"engine", "C"},
		{"model", "C"},
		{"engine", "unsafe"},
		{"engine", "github.com/spf13/cobra"},
		{"server", module + "/cmd/quire"},
		{"nowhere", module + "/engine"},
	} {
		if judge(c.folder, c.path) == "" {
			t.Errorf("judge(%q, %q) allows it, want a refusal", c.folder, c.path)
		}
	}
}

// TestStandardLibraryOnly keeps kvcache usable outside this module with nothing to download.
func TestStandardLibraryOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !within(s.folder, "kvcache") {
			continue
		}
		for _, path := range s.imports {
			if strings.Contains(path, ".") && !strings.HasPrefix(path, module+"/kvcache") {
				t.Errorf("%s imports %q, want the standard library only", s.path, path)
			}
		}
	}
}
