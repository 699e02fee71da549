// Package start is the program that measures the time from process start to first token.
package start

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
)

const short = "Measure the time from process start to first token"

// settings are what a result depends on besides model and machine.
type settings struct {
	Program string `json:"program"`
	Device  string `json:"device,omitempty"`
	Prompt  string `json:"prompt"`
	Repeats int    `json:"repeats"`
}

// row is the object of results_start.json.
type row struct {
	Model             string              `json:"model"`
	FirstTokenSeconds stats.Summary       `json:"first_token_seconds"` // from starting the process to its first output; to its end, where a token has no text
	WallSeconds       stats.Summary       `json:"wall_seconds"`        // from starting the process to its end
	FileBytes         int64               `json:"file_bytes"`          // of the weights
	Notes             []string            `json:"notes"`               // what the program said of itself the last time
	Settings          settings            `json:"settings"`
	Environment       sysinfo.Environment `json:"environment"`
	Date              string              `json:"date"`
}

// NewCommand is the program.
func NewCommand() *cobra.Command {
	s, flags, out := settings{Prompt: "One prompt of a few words, which is read before there is a first token.", Repeats: 5}, cli.EngineFlags{}, suite.Output{}
	command := &cobra.Command{
		Use: "start", Short: short, Args: suite.NoArguments, Long: suite.LongHelp(short + ", with the model's files in the page cache."),
		RunE: func(command *cobra.Command, _ []string) error {
			if s.Repeats < 1 {
				return cli.UsageError("leave the flag out for its default", "--repeats must be at least 1, got %d", s.Repeats)
			}
			return execute(command.Context(), s, flags, out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	flags.RegisterModel(f)
	f.StringVar(&s.Program, "quire", "", "`program` to start (default: quire beside this one, else what go build makes of ./cmd/quire)")
	f.StringVar(&s.Device, "device", "", "`device` to run on: cpu or cuda (default: cuda where a GPU can be used)")
	f.StringVar(&s.Prompt, "prompt", s.Prompt, "`text` to answer")
	f.IntVar(&s.Repeats, "repeats", s.Repeats, "starts that are measured, after one that is not")
	out.Register(f)
	return command
}

func execute(ctx context.Context, s settings, flags cli.EngineFlags, out suite.Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "quire-start")
	if err != nil {
		return fmt.Errorf("start: making a folder: %w", err)
	}
	defer os.RemoveAll(temporary)
	program, err := findProgram(ctx, s.Program, temporary)
	if err != nil {
		return err
	}
	s.Program = filepath.Base(program)
	checkpoint, err := flags.OpenModel(func(line string) { fmt.Fprintln(stderr, "note: "+line) })
	if err != nil {
		return err
	}
	defer checkpoint.Close()
	r := row{Model: checkpoint.Name, Settings: s, Environment: sysinfo.Collect(ctx), Date: time.Now().UTC().Format(time.DateOnly)}
	dir := checkpoint.Path
	if dir == "" {
		dir = filepath.Join(temporary, "model")
		if err := writeModel(dir, checkpoint); err != nil {
			return err
		}
	}
	r.FileBytes = checkpoint.WeightBytes()
	args := []string{"run", "-raw", "-model", dir, "-max-tokens", "1", "-temperature", "0"}
	if s.Device != "" {
		args = append(args, "-device", s.Device)
	}
	args = append(args, s.Prompt)
	var first, wall []float64
	for i := range s.Repeats + 1 {
		one, err := start(ctx, program, args)
		if err != nil {
			return err
		}
		if i > 0 { // the first one finds files and program in memory or brings them there
			first, wall = append(first, one.first.Seconds()), append(wall, one.wall.Seconds())
		}
		r.Notes = one.notes
	}
	r.FirstTokenSeconds, r.WallSeconds = stats.Summarize(first), stats.Summarize(wall)
	fmt.Fprintf(out.Text(stdout), "%s: first token %.3f s after the process began (%.3f to %.3f), its end %.3f s; %d starts\n", r.Model,
		r.FirstTokenSeconds.P50, r.FirstTokenSeconds.Min, r.FirstTokenSeconds.Max, r.WallSeconds.P50, s.Repeats)
	_, err = out.Publish("start", []any{r}, stdout, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "BenchmarkStart 1 %.0f ns/op\n", 1e9*r.FirstTokenSeconds.P50)
		return err
	})
	return err
}

// findProgram is the program to start, as a path.
func findProgram(ctx context.Context, named, dir string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", cli.UsageError("give the path of quire", "no program %q", named)
		}
		return path, nil
	}
	if own, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(own), "quire"); exists(path) {
			return path, nil
		}
	}
	path := filepath.Join(dir, "quire")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/quire").CombinedOutput(); err != nil {
		return "", fmt.Errorf("start: building ./cmd/quire: %w\n%s", err, text)
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// started is what one process did.
type started struct {
	first, wall time.Duration
	notes       []string // lines on its standard error
}

// start runs the program once.
func start(ctx context.Context, program string, args []string) (s started, err error) {
	command := exec.CommandContext(ctx, program, args...)
	var told strings.Builder
	command.Stderr = &told
	output, err := command.StdoutPipe()
	if err != nil {
		return s, fmt.Errorf("start: %w", err)
	}
	begin := time.Now()
	if err := command.Start(); err != nil {
		return s, fmt.Errorf("start: starting %q: %w", program, err)
	}
	var one [1]byte
	n, _ := output.Read(one[:])
	s.first = time.Since(begin)
	_, _ = io.Copy(io.Discard, output)
	if err := command.Wait(); err != nil {
		return s, fmt.Errorf("start: running %q: %w\n%s", program, err, told.String())
	}
	if s.wall = time.Since(begin); n == 0 {
		s.first = s.wall
	}
	s.notes = strings.Split(strings.TrimSpace(told.String()), "\n")
	return s, nil
}
