package cli

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/quire-llm/quire/internal/spelling"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// NormalizeArgs makes long flags with one dash (-model M, -model=M, as Go's own programs take them) into those with two
// that pflag knows. Only names that some command below root has are changed, so shorthands, values and negative numbers
// stay as they are; so does everything after "--".
func NormalizeArgs(root *cobra.Command, args []string) []string {
	long := longFlags(root)
	out := slices.Clone(args)
	for i := 0; i < len(out); i++ {
		if out[i] == "--" {
			break
		}
		name, ok := strings.CutPrefix(out[i], "-")
		if !ok {
			continue
		}
		name = strings.TrimPrefix(name, "-")
		name, _, hasValue := strings.Cut(name, "=")
		flag, known := long[name]
		if len(name) < 2 || !known && Nearest(name, slices.Collect(maps.Keys(long))) == "" {
			continue
		}
		if !strings.HasPrefix(out[i], "--") {
			out[i] = "-" + out[i]
		}
		if known && flag.NoOptDefVal == "" && !hasValue {
			i++ // the next argument is this flag's value, whatever it looks like
		}
	}
	return out
}

// longFlags are the flags of a command and of all below it, by name.
func longFlags(command *cobra.Command) map[string]*pflag.Flag {
	flags := map[string]*pflag.Flag{}
	add := func(f *pflag.Flag) { flags[f.Name] = f }
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(command)
	return flags
}

// Prepare sets a root command up as all programs of the project have it: errors are left to [Tell], mistakes of the user
// are usage errors with a suggestion, and args may have one dash or two.
func Prepare(root *cobra.Command, args []string) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(NormalizeArgs(root, args))
}

// flagError turns a mistake in the flags into a usage error.
func flagError(command *cobra.Command, err error) error {
	hint := "run '" + command.CommandPath() + " --help' for the flags"
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := Nearest(unknown.GetSpecifiedName(), flagNames(command)); near != "" {
			hint = "did you mean --" + near + "? " + hint
		}
	}
	return &Problem{Err: err, Hint: hint, Exit: Usage}
}

func flagNames(command *cobra.Command) []string {
	var names []string
	command.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// Nearest is the candidate that a misspelt name most likely stands for: at most a third of its letters differ, or it
// begins with what was typed. "" if none is near.
func Nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)/3+1
	for _, c := range candidates {
		d := spelling.Distance(strings.ToLower(name), strings.ToLower(c))
		if len(name) > 1 && strings.HasPrefix(c, name) {
			d = min(d, 1)
		}
		if d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}
