package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// tree is a program with a command, a flag of every kind, and a shorthand.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "prog", RunE: func(*cobra.Command, []string) error { return nil }}
	root.PersistentFlags().Bool("json", false, "")
	run := &cobra.Command{Use: "run", RunE: func(*cobra.Command, []string) error { return nil }}
	run.Flags().StringP("model", "m", "", "")
	run.Flags().Int("max-tokens", 0, "")
	run.Flags().StringArray("stop", nil, "")
	run.Flags().Bool("raw", false, "")
	root.AddCommand(run)
	return root
}

func TestNormalizeArgs(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"one dash", "run -model tiny hello", "run --model tiny hello"},
		{"one dash and =", "run -model=tiny", "run --model=tiny"},
		{"two dashes stay", "run --model tiny --max-tokens=5", "run --model tiny --max-tokens=5"},
		{"shorthand stays", "run -m tiny", "run -m tiny"},
		{"shorthand with its value stays", "run -mtiny", "run -mtiny"},
		{"bool", "run -raw -json hello", "run --raw --json hello"},
		{"bool with value", "run -raw=false", "run --raw=false"},
		{"help", "run -help", "run --help"},
		{"h stays", "run -h", "run -h"},
		{"negative number stays", "run -5", "run -5"},
		{"single dash stays", "run -", "run -"},
		{"misspelt", "run -mdoel x", "run --mdoel x"},
		{"unknown stays", "run -zebra x", "run -zebra x"},
		{"after -- all stays", "run -raw -- -model x", "run --raw -- -model x"},
		{"a value that looks like a flag", "run -stop -model -model m", "run --stop -model --model m"},
		{"a value that looks like a flag, two dashes", "run --stop -raw -raw", "run --stop -raw --raw"},
		{"flag without its value", "run -model", "run --model"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Fields(c.in)
			got := NormalizeArgs(tree(), in)
			require.Equal(t, strings.Fields(c.want), got)
			require.Equal(t, strings.Fields(c.in), in, "the arguments were changed in place")
		})
	}
}

func TestMistakesAreUsageErrors(t *testing.T) {
	for _, c := range []struct{ name, args, err, hint string }{
		{"misspelt flag", "run --modle tiny", "unknown flag: --modle", "did you mean --model?"},
		{"misspelt flag with one dash", "run -modle tiny", "unknown flag: --modle", "did you mean --model?"},
		{"flag that is not near any", "run --zzzzzz", "unknown flag: --zzzzzz", "run 'prog run --help'"},
		{"value of the wrong kind", "run --max-tokens many", "invalid argument", "run 'prog run --help'"},
		{"missing value", "run --model", "flag needs an argument", "run 'prog run --help'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree()
			Prepare(root, strings.Fields(c.args))
			p := Explain(root.Execute())
			require.Equal(t, Usage, p.Exit)
			require.Contains(t, p.Error(), c.err)
			require.Contains(t, p.Hint, c.hint)
		})
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"modle", "model"},
		{"max-token", "max-tokens"},
		{"MODEL", "model"},
		{"max", "max-tokens"},
		{"zebra", ""},
		{"m", ""},
		{"", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, Nearest(c.name, []string{"model", "max-tokens", "stop", "raw"}))
		})
	}
}
