package sysinfo

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// modulePath is how go.mod of this project begins; another repository's revision would say nothing about us.
const modulePath = "github.com/quire-llm/quire"

// Build says which source a program was built from.
type Build struct {
	Version  string `json:"version,omitempty"` // of the module, where it was built as a dependency or at a tag
	Commit   string `json:"commit"`            // "unknown" where nothing says it
	Modified bool   `json:"modified"`          // there were changes that are not in the commit
	Time     string `json:"time,omitempty"`    // of the commit, RFC 3339
}

// ReadBuild looks up what the go command stamped into the program. `go run` stamps nothing; git is asked then, if the
// working directory is this project's.
func ReadBuild(ctx context.Context) Build {
	b := Build{Commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b = buildFromInfo(info)
	}
	if b.Commit == "unknown" {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		b.askGit(ctx)
	}
	return b
}

func buildFromInfo(info *debug.BuildInfo) Build {
	b := Build{Commit: "unknown"}
	if info.Main.Path == modulePath && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			b.Version = dep.Version
			return b // the revision is that of the importing program
		}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

// askGit fills in the revision of the working directory. Any failure leaves b as it was.
func (b *Build) askGit(ctx context.Context) {
	root, err := git(ctx, "rev-parse", "--show-toplevel")
	if err != nil || !isOurs(root) {
		return
	}
	head, err := git(ctx, "log", "-1", "--format=%H %cI")
	if err != nil {
		return
	}
	changes, err := git(ctx, "status", "--porcelain")
	if err != nil {
		return
	}
	b.Commit, b.Time, _ = strings.Cut(head, " ")
	b.Modified = changes != ""
}

// isOurs reports whether the directory's go.mod is this project's.
func isOurs(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(first) == "module "+modulePath
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	return strings.TrimSpace(string(out)), err
}
