package operations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// crossing is what a table of shared attention is measured over.
type crossing struct {
	Shape       string `json:"shape"`
	KV          string `json:"kv"`
	Prefixes    []int  `json:"prefixes"`
	Groups      []int  `json:"groups"`
	Own         int    `json:"own"`
	Rows        int    `json:"rows"` // of each sequence in the step
	Runs        int    `json:"runs"`
	BlockTokens int    `json:"block_tokens"`

	device kernels.Options
}

// crossRow is an object of results_cascade_table.json: a layer's attention of sequences that share a prefix.
type crossRow struct {
	Prefix int `json:"prefix"`
	Group  int `json:"group"` // sequences

	Ordinary     float64       `json:"ordinary_us"` // every row reads the prefix: the median over runs, of a layer
	Shared       float64       `json:"shared_us"`   // it is read once for all rows
	OrdinaryRuns stats.Summary `json:"ordinary_us_runs"`
	SharedRuns   stats.Summary `json:"shared_us_runs"`
	Speedup      float64       `json:"speedup"`
	Chosen       bool          `json:"chosen"` // the cost model shares
	Layers       int           `json:"layers"` // whose caches calls meet in turn
	Settings     crossing      `json:"settings"`
	machine
}

// NewCrossoverCommand is the program.
func NewCrossoverCommand() *cobra.Command {
	s := crossing{
		Shape: "qwen3-0.6b", KV: "bf16", Prefixes: []int{128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}, Groups: []int{2, 4, 8, 16, 32, 64, 128, 256},
		Own: 64, Rows: 1, Runs: 5, BlockTokens: 16,
	}
	out := suite.Output{}
	const short = "Measure where attending once for rows that share a prefix pays"
	command := &cobra.Command{
		Use: "crossover", Short: short, Args: suite.NoArguments,
		Long: suite.LongHelp(short + ".\nBeside the results file it writes cascade_table.md."),
		RunE: func(command *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return s.execute(command.Context(), out, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVar(&s.Shape, "shape", s.Shape, "`model` whose layer is measured; qwen3-0.6b is short for synthetic:qwen3-0.6b")
	f.StringVar(&s.KV, "kv", s.KV, "element `type` of the KV cache")
	f.IntSliceVar(&s.Prefixes, "prefixes", s.Prefixes, "`tokens` that all sequences share")
	f.IntSliceVar(&s.Groups, "groups", s.Groups, "`sequences` that share them")
	f.IntVar(&s.Own, "own", s.Own, "`tokens` that each has of its own")
	f.IntVar(&s.Rows, "rows", s.Rows, "`rows` of each sequence in the step, its last tokens")
	f.IntVar(&s.Runs, "runs", s.Runs, "times that each measurement is taken; the median is shown")
	f.IntVar(&s.BlockTokens, "block-tokens", s.BlockTokens, "tokens in a block of the KV cache")
	f.StringVar(&s.device.Device, "device", "", "`device`: cpu or cuda (default: cuda where a GPU can be used)")
	f.IntVar(&s.device.Threads, "threads", 0, "CPU worker threads (default: one for each core)")
	out.Register(f)
	return command
}

func (s *crossing) check() error {
	least := min(s.Own, s.Rows, s.Runs, s.BlockTokens, slices.Min(append(slices.Clone(s.Prefixes), 1)), slices.Min(append(slices.Clone(s.Groups), 1)))
	if least < 1 || len(s.Prefixes) == 0 || len(s.Groups) == 0 || s.Rows > s.Own {
		return cli.UsageError("leave a flag out for its default", "all numbers must be at least 1, and -rows %d at most -own %d", s.Rows, s.Own)
	}
	return nil
}

// execute measures the table and writes the files.
func (s *crossing) execute(ctx context.Context, out suite.Output, stdout, stderr io.Writer) error {
	if err := out.MakeFolder(); err != nil {
		return err
	}
	kv, err := cli.ParseKV(s.KV)
	if err != nil {
		return err
	}
	config, err := configOf(s.Shape)
	if err != nil {
		return err
	}
	device, err := kernels.Open(s.device)
	if err != nil {
		return err
	}
	defer device.Close()
	if !device.SharesAttention(kv, config.HeadDim) {
		return cli.UsageError("take -kv bf16", "this device does not attend once for several rows over %v", kv)
	}
	info := device.Info()
	m := machine{
		Device: info.Kind, DeviceName: info.Name, Driver: info.Driver, KernelSet: info.KernelSet, Images: info.Images, Products: info.Products, Threads: info.Threads,
		Environment: sysinfo.Collect(ctx), Command: strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "), Date: time.Now().UTC().Format(time.DateOnly),
	}
	text, progress := out.Text(stdout), out.Progress(stderr)
	defer progress.Clear()
	rig, err := newRig(ctx, device, settings{Rows: []int{slices.Max(s.Groups) * s.Rows}, RotateMiB: 1, BlockTokens: s.BlockTokens}, config)
	if err != nil {
		return err
	}
	defer rig.close()
	k, err := s.cache(rig, kv)
	if err != nil {
		return err
	}
	defer k.close(rig)
	var rows []crossRow
	var failed error
	for _, prefix := range s.Prefixes {
		for _, group := range s.Groups {
			progress.Show("%d sequences share %d tokens", group, prefix)
			r := crossRow{Prefix: prefix, Group: group, Layers: len(k.layers), Settings: *s, machine: m}
			if failed = s.measure(rig, k, &r); failed != nil {
				failed = fmt.Errorf("crossover: %d sequences that share %d tokens: %w", group, prefix, failed)
				break
			}
			rows = append(rows, r)
		}
		if failed != nil {
			break
		}
	}
	if len(rows) == 0 {
		return failed
	}
	progress.Clear()
	table := crossTable(rows)
	if _, err := io.WriteString(text, table); err != nil {
		return err
	}
	all := make([]any, len(rows))
	for i := range rows {
		all[i] = rows[i]
	}
	_, wrote := out.WriteFile("cascade_table.md", []byte(table))
	_, err = out.Publish("cascade_table", all, stdout, func(w io.Writer) error { return crossBenchfmt(w, rows) })
	return errors.Join(failed, wrote, err)
}

// cache has room for the longest prefix and the largest group, in all layers of the model or as many as memory holds.
func (s *crossing) cache(r *rig, kv kernels.KVType) (*cache, error) {
	tokens := slices.Max(s.Prefixes) + s.Own
	blocks := s.blocksOf(slices.Max(s.Prefixes)) + slices.Max(s.Groups)*s.blocksOf(s.Own)
	// A sequence whose tokens fill those blocks; what sequences see is planned for each row of the table.
	return r.newCache(kv, 1, max(tokens, blocks*s.BlockTokens), 1)
}

func (s *crossing) blocksOf(tokens int) int { return (tokens + s.BlockTokens - 1) / s.BlockTokens }

// plan is a step of sequences that share a prefix. Blocks are scattered.
func (s *crossing) plan(prefix, group int) (*attention.Plan, error) {
	shared, own := s.blocksOf(prefix), s.blocksOf(s.Own)
	order := scattered(shared + group*own)
	p := &attention.Plan{}
	p.Reset(s.BlockTokens)
	for i := range group {
		view := []kvcache.Segment{
			{Blocks: order[:shared], Len: prefix},
			{Blocks: order[shared+i*own:][:own], Len: s.Own, Pos: prefix, Stored: prefix},
		}
		if err := p.Add(view, s.Rows); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// shapeOf is a layer as the cost model sees it.
func shapeOf(c model.Config, kv kernels.KVType, device string) attention.Shape {
	return attention.Shape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, TokenBytes: 2 * c.KVHeads * kv.RowBytes(c.HeadDim), GPU: device == "cuda"}
}

// measure times a step both ways, and asks the cost model.
func (s *crossing) measure(r *rig, k *cache, row *crossRow) error {
	shape := shapeOf(r.config, k.kv, r.device.Info().Kind)
	for _, mode := range attention.Modes() {
		plan, err := s.plan(row.Prefix, row.Group)
		if err != nil {
			return err
		}
		plan.Share(mode, shape)
		if mode == attention.Auto {
			row.Chosen = plan.Shares()
			continue
		}
		micros, err := s.time(r, k, plan, row)
		if err != nil {
			return err
		}
		if mode == attention.Ordinary {
			row.OrdinaryRuns = micros
		} else {
			row.SharedRuns = micros
		}
	}
	row.Ordinary, row.Shared = row.OrdinaryRuns.P50, row.SharedRuns.P50
	row.Speedup = row.Ordinary / row.Shared
	return nil
}

// A run takes about so long at most, where rows read the prefix alone at a few terabytes a second.
const crossRunBytes = 100e9

// time is the microseconds of a layer's attention.
func (s *crossing) time(r *rig, k *cache, plan *attention.Plan, row *crossRow) (stats.Summary, error) {
	lists, err := attention.NewBuffers(r.device, plan.Sizes())
	if err != nil {
		return stats.Summary{}, err
	}
	defer lists.Free()
	timed := *k
	timed.lists = lists
	err = r.device.Do(r.ctx, func(ops kernels.Ops) (err error) {
		timed.work, err = plan.Write(ops, lists)
		return err
	})
	if err != nil {
		return stats.Summary{}, err
	}
	timed.work.Single = plan.Single()
	j := r.attend("shared", row.Group, row.Prefix+s.Own, s.Rows, &timed)
	calls := min(max(int(crossRunBytes/j.bytes), leastCalls), len(k.layers))
	took, err := r.device.Time(r.ctx, s.Runs, func(ops kernels.Ops) error {
		for i := range calls {
			if err := j.call(ops, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return stats.Summary{}, err
	}
	micros := make([]float64, len(took))
	for i, t := range took {
		micros[i] = float64(t.Nanoseconds()) / 1e3 / float64(calls)
	}
	return stats.Summarize(micros), nil
}

// crossTable is the table in Markdown. Below it stands what the cost model's choices cost.
func crossTable(rows []crossRow) string {
	var text strings.Builder
	first := rows[0]
	s, env := first.Settings, first.Environment
	fmt.Fprintf(&text, "# Attention of rows that share a prefix, each alone and all together\n\n")
	fmt.Fprintf(&text, "%s, %s, %s, commit %s, %s, %s.\n`%s`\n\n", first.DeviceName, first.Driver, first.KernelSet, env.Build.Commit, env.Go, first.Date, first.Command)
	fmt.Fprintf(&text, "A layer of %s over %s, %d rows of each sequence, %d tokens of its own; microseconds of ordinary / shared attention, the median\n", s.Shape, s.KV, s.Rows, s.Own)
	fmt.Fprintf(&text, "of %d runs over %d layers in turn. Bold: where the cost model shares.\n\n| prefix |", s.Runs, first.Layers)
	for _, group := range s.Groups {
		fmt.Fprintf(&text, " %d |", group)
	}
	fmt.Fprintf(&text, "\n|%s\n", strings.Repeat("---|", len(s.Groups)+1))
	chosen, worst, sharing := 0.0, 1.0, 0.0 // over the better of the two
	for i, r := range rows {
		if r.Group == s.Groups[0] {
			fmt.Fprintf(&text, "| %d |", r.Prefix)
		}
		format := " %.1f / %.1f |"
		if r.Chosen {
			format = " **%.1f / %.1f** |"
		}
		fmt.Fprintf(&text, format, r.Ordinary, r.Shared)
		if i == len(rows)-1 || rows[i+1].Prefix != r.Prefix {
			text.WriteByte('\n')
		}
		took := r.Ordinary
		if r.Chosen {
			took = r.Shared
		}
		best := min(r.Ordinary, r.Shared)
		chosen, worst, sharing = chosen+took/best, max(worst, took/best), sharing+r.Shared/best
	}
	n := float64(len(rows))
	fmt.Fprintf(&text, "\nOver the better of the two, the model's choice takes %.1f %% more on average and %.0f %% at worst; sharing always, %.1f %% on average.\n",
		100*(chosen/n-1), 100*(worst-1), 100*(sharing/n-1))
	return text.String()
}

// crossBenchfmt writes two lines of Go's benchmark format for each row.
func crossBenchfmt(w io.Writer, rows []crossRow) error {
	var text strings.Builder
	for _, r := range rows {
		for _, c := range []struct {
			name   string
			micros float64
		}{{"ordinary", r.Ordinary}, {"shared", r.Shared}} {
			fmt.Fprintf(&text, "BenchmarkCrossover/prefix=%d/group=%d/attention=%s %d %.0f ns/op\n", r.Prefix, r.Group, c.name, r.OrdinaryRuns.Count, 1e3*c.micros)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
