package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/golden"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
)

// verifyFlags are the flags of `quire verify`.
type verifyFlags struct {
	cli.EngineFlags
	tolerance float64
	asJSON    bool
}

func (a *App) verifyCommand() *cobra.Command {
	var f verifyFlags
	command := &cobra.Command{
		Use:   "verify MODEL GOLDEN.json",
		Short: "Compare a model with what a reference implementation computed from it",
		Long: `Compare a model with what a reference implementation computed from it.

The reference's tokens are fed to the model, so that one near-tie cannot send everything after it down another path. Compared
are the log-probability of every prompt token, the largest logits after the prompt, and the most likely token at every place
of the continuation where the reference's lead is larger than the tolerance.

There are two passes. With a float32 KV cache and kernels that round nothing, every number must be within --tolerance. With
the bf16 KV cache and the kernels that are used otherwise, which may round the inputs of products to bfloat16, the mean
|Δ log p| may be 1.25 times and the 99th percentile 1.5 times that of the reference's own bfloat16 run; where the golden file
does not record that run, the pass is only reported. At least 80 % of the continuation must have a lead that counts. --kv
takes one pass alone; --device cuda and --kernel-set avx512bf16 round in both, and both are held to the limits of the second.

With --weights int8 both passes may miss 3 times what the reference's own bfloat16 run misses, in the mean and in the 99th
percentile, and one lead in 33 may flip; each pass says whether it would also have been good enough for bf16.

Exit code 0: the model computes what the reference computed. 1: it does not. Others: quire help exit-codes.`,
		Example: "  quire verify ~/models/Qwen3-0.6B golden.json\n  quire verify tiny golden.json -kv f32 -tolerance 0.0005",
		Args:    exactly(2, "MODEL GOLDEN.json"),
		RunE: func(command *cobra.Command, args []string) error {
			ctx, stop := a.interruptible(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			f.Model = args[0]
			return a.verify(ctx, f, args[1])
		},
	}
	flags := command.Flags()
	flags.SortFlags = false
	flags.Float64Var(&f.tolerance, "tolerance", golden.Float32().Logprob, "how far a number may be from the reference with a float32 cache, in nats")
	f.RegisterDevice(flags)
	f.RegisterStrategy(flags)
	f.RegisterCache(flags)
	f.KV = "both"
	kv := flags.Lookup("kv")
	kv.DefValue, kv.Usage = f.KV, "element `type` of the KV cache: bf16, f32, int8 or fp8 (only reported), or both, a pass with bf16 and one with f32"
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	return command
}

// pass is one way to run the model.
type pass struct {
	name      string
	kv        kernels.KVType
	tolerance golden.Tolerance
	judged    bool // a failure counts
	exact     bool // nothing is rounded
}

// passes are those that the flags ask for.
func (f verifyFlags) passes(file *golden.File) ([]pass, error) {
	if f.tolerance <= 0 {
		return nil, cli.UsageError("leave it out for 0.001", "--tolerance must be above 0, got %v", f.tolerance)
	}
	exact := golden.Float32()
	exact.Logprob, exact.Logit, exact.Margin = f.tolerance, f.tolerance, f.tolerance
	all := []pass{
		{fmt.Sprintf("float32 products and KV cache: every number within %g", f.tolerance), kernels.KVF32, exact, true, true},
		{"bf16 KV cache: only reported, since the golden file has no bfloat16 run of the reference", kernels.KVBF16, golden.BF16(file), false, false},
	}
	if e := file.BF16Error; e.Mean > 0 {
		t := all[1].tolerance
		all[1].judged = true
		all[1].name = fmt.Sprintf("bf16 KV cache: mean |Δ log p| at most %.3g, p99 at most %.3g", t.Mean, t.P99)
	}
	if f.Weights == kernels.Int8.String() {
		all = int8Passes(file)
	} else if f.Device == "cuda" || f.KernelSet != "" && kernels.RoundsProducts(f.KernelSet) {
		all[0].name, all[0].tolerance, all[0].judged, all[0].exact = "float32"+all[1].name[len("bf16"):], all[1].tolerance, all[1].judged, false
	}
	for _, kv := range []kernels.KVType{kernels.KVI8, kernels.KVFP8} {
		if f.KV == kv.String() {
			return []pass{{fmt.Sprintf("%s weights, %v KV cache: only reported", cmp.Or(f.Weights, "bf16"), kv), kv, golden.Int8(file), false, false}}, nil
		}
	}
	if f.KV == "both" {
		return all, nil
	}
	kv, err := cli.ParseKV(f.KV)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.kv == kv {
			return []pass{p}, nil
		}
	}
	return nil, fmt.Errorf("no pass for a KV cache of %s", kv)
}

// int8Passes are the passes with weights in int8.
func int8Passes(file *golden.File) []pass {
	t, limits := golden.Int8(file), "only reported, since the golden file has no bfloat16 run of the reference"
	if file.BF16Error.Mean > 0 {
		limits = fmt.Sprintf("mean |Δ log p| at most %.3g, p99 at most %.3g", t.Mean, t.P99)
	}
	var all []pass
	for _, kv := range []kernels.KVType{kernels.KVF32, kernels.KVBF16} {
		all = append(all, pass{fmt.Sprintf("int8 weights, %s KV cache: %s", kv, limits), kv, t, file.BF16Error.Mean > 0, kv == kernels.KVF32})
	}
	return all
}

// passReport is a pass with what came of it.
type passReport struct {
	Pass       string          `json:"pass"`
	KV         string          `json:"kv"`
	KernelSet  string          `json:"kernel_set"`
	Products   string          `json:"products"`
	Weights    string          `json:"weights"`
	BF16       golden.Error    `json:"bf16_reference"`     // what the reference's own bfloat16 run misses; zero: not known
	WithinBF16 bool            `json:"within_bf16_limits"` // the mean and the 99th percentile would do for bf16
	Judged     bool            `json:"judged"`
	Passed     bool            `json:"passed"`
	Report     golden.Report   `json:"report"`
	Cases      []caseStatistic `json:"cases"`
}

// caseStatistic is one line of the table.
type caseStatistic struct {
	Prompt     int     `json:"prompt_tokens"`
	Output     int     `json:"output_tokens"`
	Positions  int     `json:"positions"` // log-probabilities compared
	Compared   int     `json:"argmax_compared"`
	Mismatches int     `json:"argmax_mismatches"`
	Mean       float64 `json:"mean"`
	P99        float64 `json:"p99"`
	Max        float64 `json:"max"`
	LogitMax   float64 `json:"logit_max"`
}

// errMismatch is what verify returns where the model is not the reference's.
var errMismatch = errors.New("the model does not compute what the reference computed")

func (a *App) verify(ctx context.Context, f verifyFlags, goldenFile string) error {
	file, err := golden.Open(goldenFile)
	if err != nil {
		return &cli.Problem{Err: err, Hint: "give a file that oracle/reference.py golden has written", Exit: cli.Failed}
	}
	passes, err := f.passes(file)
	if err != nil {
		return err
	}
	ck, err := f.OpenModel(a.note)
	if err != nil {
		return err
	}
	defer ck.Close()
	ck.Config.Rope.BF16Frequencies = file.RoundedRope
	if !f.asJSON {
		writeReference(a.Stdout, file)
	}
	reports := []passReport{}
	var failed error
	for _, p := range passes {
		r, err := a.runPass(ctx, f, ck, file, p)
		if err != nil {
			return err
		}
		reports = append(reports, r)
		if p.judged && !r.Passed && failed == nil {
			failed = &cli.Problem{
				Err:  fmt.Errorf("%w: %w", errMismatch, r.Report.Err()),
				Hint: "compare config.json and the weights with those that the golden file was made from; if they are the same, it is a bug of ours",
				Exit: cli.Failed,
			}
		}
		if !f.asJSON {
			r.write(a.Stdout)
		}
	}
	if f.asJSON {
		err = writeJSON(a.Stdout, map[string]any{"model": ck.Name, "golden": goldenFile, "made_with": file.MadeWith, "passes": reports})
	}
	return errors.Join(failed, err)
}

// writeReference says what the model is compared with.
func writeReference(w io.Writer, file *golden.File) {
	rope := ""
	if file.RoundedRope {
		rope = "; its rotary frequencies are rounded to bfloat16, and so are ours here"
	}
	fmt.Fprintf(w, "reference: %s%s\n\n", file.MadeWith, rope)
}

// runPass feeds all cases to the model and compares.
func (a *App) runPass(ctx context.Context, f verifyFlags, ck *model.Checkpoint, file *golden.File, p pass) (passReport, error) {
	f.KV = p.kv.String()
	options, err := f.OptionsFor(ck)
	if err != nil {
		return passReport{}, err
	}
	options.DeviceOptions.Float32 = p.exact
	e, err := engine.Open(ctx, options)
	if err != nil {
		return passReport{}, err
	}
	defer e.Close()
	device := e.Info().Device
	r := passReport{Pass: p.name, KV: f.KV, KernelSet: device.KernelSet, Products: device.Products, Weights: e.Info().Weights.String(), BF16: file.BF16Error, Judged: p.judged}
	progress := cli.NewProgress(a.Stderr)
	defer progress.Clear()
	var reports []golden.CaseReport
	for i, c := range file.Cases {
		progress.Show("case %d of %d, %d tokens", i+1, len(file.Cases), len(c.Tokens)+len(c.Greedy))
		observed, err := observe(ctx, e, c)
		if err != nil {
			return passReport{}, fmt.Errorf("case %d: %w", i, err)
		}
		report := golden.Compare(c, observed, p.tolerance)
		reports = append(reports, report)
		r.Cases = append(r.Cases, statistic(c, observed, report, p.tolerance))
	}
	r.Report = golden.Summarize(reports, p.tolerance)
	r.Passed = r.Report.Passed()
	r.WithinBF16 = r.Report.Within(golden.BF16(file))
	return r, nil
}

// observe feeds one case to the engine, prompt and continuation.
func observe(ctx context.Context, e *engine.Engine, c golden.Case) (golden.Observed, error) {
	request := engine.Request{Tokens: c.Tokens, PromptLogprobs: true, Logprobs: max(len(c.Top), 1), Force: c.Greedy}
	if len(c.Greedy) == 0 {
		request.MaxTokens = 1 // for the logits after the prompt
	}
	var o golden.Observed
	for token, err := range e.Generate(ctx, request) {
		if err != nil {
			return o, err
		}
		if token.ID >= 0 && o.Top == nil {
			for _, t := range token.Top {
				o.Top = append(o.Top, golden.Logit{Token: t.ID, Logit: float64(t.Logit)})
			}
		}
		if token.ID >= 0 && len(c.Greedy) > 0 {
			o.Argmax = append(o.Argmax, token.Argmax)
			o.GreedyLogprobs = append(o.GreedyLogprobs, float64(token.Logprob))
		}
		if token.Result != nil {
			for _, p := range token.Result.Prompt {
				o.PromptLogprobs = append(o.PromptLogprobs, float64(p.Logprob))
			}
		}
	}
	return o, nil
}

// statistic counts what the table shows of a case.
func statistic(c golden.Case, o golden.Observed, r golden.CaseReport, tol golden.Tolerance) caseStatistic {
	s := stats.Summarize(r.Deltas)
	line := caseStatistic{
		Prompt: r.Tokens, Output: r.Greedy, Positions: s.Count, Compared: r.Compared,
		Mean: s.Mean, P99: s.P99, Max: s.Max, LogitMax: r.LogitMax,
	}
	for i, want := range c.Greedy {
		if i < len(o.Argmax) && c.Margins[i] > tol.Margin && o.Argmax[i] != want {
			line.Mismatches++
		}
	}
	return line
}

// write prints the pass as a table.
func (r passReport) write(w io.Writer) {
	fmt.Fprintln(w, r.Pass)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "case\tprompt\toutput\tpositions\tmean\tp99\tmax\tlogits max\targmax compared\twrong\t")
	wrong := 0
	for i, c := range r.Cases {
		wrong += c.Mismatches
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%.2g\t%.2g\t%.2g\t%.2g\t%d/%d\t%d\t\n", i, c.Prompt, c.Output, c.Positions, c.Mean, c.P99, c.Max, c.LogitMax, c.Compared, c.Output, c.Mismatches)
	}
	all := r.Report
	fmt.Fprintf(table, "all\t\t%d\t%d\t%.2g\t%.2g\t%.2g\t%.2g\t%d/%d\t%d\t\n", all.Greedy, all.Positions, all.Mean, all.P99, all.Max, all.LogitMax, all.GreedyCompared, all.Greedy, wrong)
	table.Flush()
	result := "passed"
	switch {
	case !r.Passed && r.Judged:
		result = "FAILED"
	case !r.Judged:
		result = "reported"
	}
	fmt.Fprintf(w, "%s: %d positions compared, %.0f %% of the continuations\n", result, all.Positions+all.GreedyCompared, 100*all.ComparedShare())
	if r.Weights == kernels.Int8.String() && r.BF16.Mean > 0 {
		within := "beyond"
		if r.WithinBF16 {
			within = "within"
		}
		fmt.Fprintf(w, "mean %.3g, p99 %.3g beside %.3g and %.3g of the reference's own bfloat16 run: %s the limits of bf16\n", all.Mean, all.P99, r.BF16.Mean, r.BF16.P99, within)
	}
	fmt.Fprintln(w)
}
