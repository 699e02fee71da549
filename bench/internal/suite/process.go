package suite

import (
	"cmp"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/quire-llm/quire/internal/cli"
)

// pointArgument makes a program of the suite measure one point: the job is on its standard input. Whoever started it keeps
// that open and closes it to interrupt, so that the process also ends with the one that waits for it.
const pointArgument = "measure-point"

// pointVariable marks the environment of such a process, which must not start another: a test program that does not know the
// argument would run its tests again, without end.
const pointVariable = "QUIRE_BENCH_POINT"

// childPatience is how long an interrupted process has to write down what it has.
const childPatience = 30 * time.Second

// job is what a process of its own is asked to measure, as a gob.
type job struct {
	Benchmark string
	Point     int // index among the benchmark's points
	Settings  Settings
	Engine    cli.EngineFlags
	Header    bool   // print what all points have in common first
	Text      bool   // print the point
	Benchfmt  bool   // print its Go benchmark lines
	Quiet     bool   // show no progress
	Reply     string // file for it
}

// reply is what such a process leaves behind, as JSON, unless it breaks down.
type reply struct {
	Row  json.RawMessage `json:"row,omitempty"` // of a point that was cut short, too
	Exit cli.Exit        `json:"exit"`
}

// measurePoint is the process that measures one point.
func measurePoint(ctx context.Context, benchmarks []Benchmark, stdin io.Reader, stdout, stderr io.Writer) cli.Exit {
	var j job
	if err := gob.NewDecoder(stdin).Decode(&j); err != nil {
		return cli.Tell(stderr, fmt.Errorf("suite: reading what to measure: %w", err))
	}
	b, err := find(benchmarks, j.Benchmark)
	if err != nil {
		return cli.Tell(stderr, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	row, err := j.measure(ctx, b, stdout, stderr)
	exit := cli.Tell(stderr, err)
	data, err := json.Marshal(reply{row, exit})
	if err == nil {
		err = writeFile(j.Reply, data)
	}
	if err != nil {
		return cli.Tell(stderr, err)
	}
	return exit
}

// find is a benchmark or its independent twin.
func find(benchmarks []Benchmark, name string) (Benchmark, error) {
	for _, b := range benchmarks {
		if b.Name == name {
			return b, nil
		}
		if b.Independent != nil && b.Independent.Name == name {
			return *b.Independent, nil
		}
	}
	return Benchmark{}, fmt.Errorf("suite: no benchmark %q", name)
}

// measure measures the point and returns its row, even if it was cut short.
func (j *job) measure(ctx context.Context, b Benchmark, stdout, stderr io.Writer) (json.RawMessage, error) {
	s, err := open(ctx, b, j.Settings, j.Engine, io.Discard) // who asks has told the notes
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.progress = cli.NewProgress(nil)
	if !j.Quiet {
		s.progress = cli.NewProgress(stderr)
	}
	text := io.Discard
	if j.Text {
		text = stdout
	}
	if j.Header {
		s.printHeader(text)
	}
	points := b.Points(s.settings, s.prompts)
	if j.Point >= len(points) {
		return nil, fmt.Errorf("suite: benchmark %q has %d points, not one of index %d", b.Name, len(points), j.Point)
	}
	p := points[j.Point]
	m, failed := s.measureOne(ctx, p, text)
	if j.Benchfmt {
		failed = errors.Join(failed, writeBenchfmt(stdout, b, []Point{p}, []Measured{m}))
	}
	row, err := json.Marshal(p.Row(m))
	return row, errors.Join(failed, err)
}

// start measures a point in a process of its own and waits for it. A process that fails has told its error itself, unless it
// broke down: then the reply is empty.
func (j job) start(ctx context.Context, stdout, stderr io.Writer) (r reply, err error) {
	if os.Getenv(pointVariable) != "" {
		return r, fmt.Errorf("suite: %s is set: a process that measures a point starts no other", pointVariable)
	}
	program, err := os.Executable()
	if err != nil {
		return r, fmt.Errorf("suite: finding this program, to start it again: %w", err)
	}
	folder, err := os.MkdirTemp("", "quire-bench-*")
	if err != nil {
		return r, fmt.Errorf("suite: making a folder for a process's reply: %w", err)
	}
	defer os.RemoveAll(folder)
	j.Reply = filepath.Join(folder, "reply.json")

	child := exec.CommandContext(ctx, program, pointArgument)
	child.Stdout, child.Stderr = stdout, stderr
	child.Env = append(os.Environ(), pointVariable+"=1")
	stdin, err := child.StdinPipe()
	if err != nil {
		return r, fmt.Errorf("suite: making a pipe to a process: %w", err)
	}
	child.Cancel, child.WaitDelay = stdin.Close, childPatience
	if err := child.Start(); err != nil {
		return r, fmt.Errorf("suite: starting a process: %w", err)
	}
	sent := gob.NewEncoder(stdin).Encode(j)
	failed := child.Wait()
	data, err := os.ReadFile(j.Reply)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, cmp.Or(failed, sent, err)
}
