package fair

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
)

// name is the suite's, in --suite and in file names.
const name = "fair"

// Asked says whether the arguments ask for this suite.
func Asked(args []string) bool {
	for i, a := range args {
		flag, value, given := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if !strings.HasPrefix(a, "-") || flag != suite.SuiteFlag {
			continue
		}
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		return value == name
	}
	return false
}

// settings are what a result depends on besides model and machine.
type settings struct {
	Workloads   []string
	Prefixes    []int
	Sequences   []int
	Output      int
	MaxTokens   int
	Temperature float64
	Seed        int64
	Repeats     int
	Warmup      int
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringSliceVar(&s.Workloads, "workloads", nil, "only workloads with one of these `words` in their name, such as nothing or \"prefix 1024 x 16\" (default: all)")
	f.IntSliceVar(&s.Prefixes, "prefixes", []int{512, 1024, 2048, 4096, 8192}, "`tokens` that the prompts of a batch have in common, scaled to the model's context")
	f.IntSliceVar(&s.Sequences, "sequences", []int{8, 16, 64, 256}, "`counts` of prompts in a batch with a common prefix")
	f.IntVar(&s.Output, "max-output", 32, "tokens generated for each prompt")
	f.IntVar(&s.MaxTokens, "max-tokens", 24<<10, "most prompt `tokens` of a workload; larger ones are left out; 0 is no limit")
	f.Float64Var(&s.Temperature, "temperature", 0.6, "sampling temperature; 0 is greedy")
	f.Int64Var(&s.Seed, "seed", 42, "seed of the prompts and of the sampling")
	f.IntVar(&s.Repeats, "repeats", 3, "repeats of each row, in turns with those of the other strategies; all are recorded")
	f.IntVar(&s.Warmup, "warmup", 10, "tokens generated before each repeat to warm up; 0 for no warm-up")
}

// check says what is wrong with the settings, all at once.
func (s *settings) check() error {
	var wrong []string
	atLeast := func(flag string, least int, values ...int) {
		for _, v := range values {
			if v < least {
				wrong = append(wrong, fmt.Sprintf("--%s must be at least %d, got %d", flag, least, v))
			}
		}
	}
	atLeast("prefixes", 1, s.Prefixes...)
	atLeast("sequences", 1, s.Sequences...)
	atLeast("max-output", 1, s.Output)
	atLeast("max-tokens", 0, s.MaxTokens)
	atLeast("repeats", 1, s.Repeats)
	atLeast("warmup", 0, s.Warmup)
	if s.Temperature < 0 {
		wrong = append(wrong, fmt.Sprintf("--temperature must be at least 0, got %v", s.Temperature))
	}
	if len(wrong) == 0 {
		return nil
	}
	return cli.UsageError("leave a flag out for its default", "%s", strings.Join(wrong, "; "))
}

// Command is run_all -suite fair.
func Command() *cobra.Command {
	const short = "Measure all KV-cache strategies on the same workloads, in turns"
	var r runner
	which := name
	c := &cobra.Command{Use: "run_all", Short: short, Args: suite.NoArguments, Long: suite.LongHelp(short +
		". Every strategy gets the same tokens, pool, sampler and seeds. A row fails if its\nanswers are not the standard strategy's, or if other tokens were computed than the prompts alone call for.")}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if which != name {
			return cli.UsageError("take original or fair", "no suite %q", which)
		}
		if err := r.settings.check(); err != nil {
			return err
		}
		return r.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&which, suite.SuiteFlag, which, suite.SuiteHelp)
	r.flags.RegisterModel(f)
	r.settings.register(f)
	r.flags.RegisterDevice(f)
	r.flags.RegisterCache(f)
	r.out.Register(f)
	return c
}
