package suite

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/internal/cli"
)

// Output says where a program's results go, and what it prints.
type Output struct {
	dir      string
	quiet    bool
	json     bool
	benchfmt bool
}

// Register adds --out, --quiet, --json and --benchfmt.
func (o *Output) Register(flags *pflag.FlagSet) {
	flags.StringVar(&o.dir, "out", ".", "`folder` for the results file; made if it is not there")
	flags.BoolVar(&o.quiet, "quiet", false, "print nothing but the results file's path")
	flags.BoolVar(&o.json, "json", false, "print the rows as JSON instead of text")
	flags.BoolVar(&o.benchfmt, "benchfmt", false, "print Go benchmark lines, for benchstat, instead of text")
}

// MakeFolder makes the folder and proves that files can be written there, before anything is measured for one.
func (o *Output) MakeFolder() error { return makeWritable(o.dir) }

// Text is where text for people goes: stdout, or nowhere if something else is printed there.
func (o *Output) Text(stdout io.Writer) io.Writer {
	if o.quiet || o.json || o.benchfmt {
		return io.Discard
	}
	return stdout
}

// Progress is shown on stderr, or not at all.
func (o *Output) Progress(stderr io.Writer) *cli.Progress {
	if o.quiet {
		return cli.NewProgress(nil)
	}
	return cli.NewProgress(stderr)
}

// Publish writes the rows to results_NAME.json, and on stdout what was asked for there; benchfmt writes the rows' Go
// benchmark lines. It returns the file's path.
func (o *Output) Publish(name string, rows []any, stdout io.Writer, benchfmt func(io.Writer) error) (path string, err error) {
	return o.publish("results_"+name+".json", rows, true, stdout, benchfmt)
}

// WriteFile writes a file beside the results and returns its path.
func (o *Output) WriteFile(name string, data []byte) (path string, err error) {
	path = o.path(name)
	return path, writeFile(path, data)
}

// path is where a file of that name goes.
func (o *Output) path(name string) string { return filepath.Join(o.dir, name) }

// publish writes the rows to a file. Where other things than text are asked for, last says that the file is the one that
// they are about.
func (o *Output) publish(name string, rows []any, last bool, stdout io.Writer, benchfmt func(io.Writer) error) (path string, err error) {
	path = o.path(name)
	data, err := encodeRows(rows)
	if err != nil {
		return path, err
	}
	if err := writeFile(path, data); err != nil {
		return path, err
	}
	switch {
	case o.Text(stdout) != io.Discard:
		_, err = fmt.Fprintf(stdout, "\nResults saved to %s\n", path)
	case !last:
	case o.json:
		_, err = stdout.Write(data)
	case o.benchfmt:
		err = benchfmt(stdout)
	default:
		_, err = fmt.Fprintln(stdout, path)
	}
	return path, err
}
