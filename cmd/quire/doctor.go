package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/internal/sysinfo"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model/tiny"
)

// finding is one line of what doctor says.
type finding struct {
	Subject string `json:"subject"`
	Status  string `json:"status"` // "ok", "advice" or "FAILED"
	Text    string `json:"text"`
	Advice  string `json:"advice,omitempty"` // what to do about it
}

func found(subject, format string, args ...any) finding {
	return finding{Subject: subject, Status: "ok", Text: fmt.Sprintf(format, args...)}
}

// but adds what to do.
func (f finding) but(advice string) finding {
	f.Status, f.Advice = "advice", advice
	return f
}

// failed marks the finding as something that must not be.
func (f finding) failed(advice string) finding {
	f.Status, f.Advice = "FAILED", advice
	return f
}

func (a *App) doctorCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this machine: what is fast, what is missing, what to do about it",
		Long: `Look at this machine: CPU features and the kernels in use, memory and its bandwidth, GPUs and their driver, the model cache
and the disk under it, and whether the built-in model computes what it should. Nothing is changed and no network is used.

Exit code 1: something is broken. What is only slow or missing is said with advice.`,
		Example: "  quire doctor\n  quire doctor -json",
		Args:    exactly(0, ""),
		RunE: func(command *cobra.Command, _ []string) error {
			findings := examine(command.Context())
			var err error
			if asJSON {
				err = writeJSON(a.Stdout, findings)
			} else {
				err = writeFindings(a.Stdout, findings)
			}
			for _, f := range findings {
				if f.Status == "FAILED" {
					err = errors.Join(err, &cli.Problem{Err: fmt.Errorf("%s: %s", f.Subject, f.Text), Hint: f.Advice, Exit: cli.Failed})
				}
			}
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func writeFindings(w io.Writer, findings []finding) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Status, f.Subject, f.Text)
		if f.Advice != "" {
			fmt.Fprintf(table, "\t\t→ %s\n", f.Advice)
		}
	}
	return table.Flush()
}

// examine looks at everything.
func examine(ctx context.Context) []finding {
	environment := sysinfo.Collect(ctx)
	env := hub.EnvFromOS()
	findings := []finding{
		examineCPU(environment),
		examineMemory(environment),
		examineGPU(sysinfo.FindGPU()),
	}
	findings = append(findings, examineCache(env)...)
	return append(findings, examineModel(env), examineEngine(ctx))
}

func examineCPU(e sysinfo.Environment) finding {
	device, err := kernels.Open(kernels.Options{Device: "cpu"})
	if err != nil {
		return found("cpu", "%s: %v", e.CPU, err).failed("this is a bug: please report it")
	}
	defer device.Close()
	info := device.Info()
	f := found("cpu", "%s, %d cores; features: %s; kernels in use: %s", e.CPU, e.LogicalCores, features(sysinfo.CPUFeatures()), info.KernelSet)
	switch info.KernelSet {
	case "go":
		return f.but("plain-Go kernels are slow: " + info.KernelReason)
	case "portable":
		return f.but("this CPU has neither AVX2 nor AVX-512: every answer will be slow")
	}
	return f
}

func features(names []string) string {
	if len(names) == 0 {
		return "none that matter here"
	}
	return strings.Join(names, " ")
}

// qwenBytes is what decoding one token of Qwen3-0.6B reads: its weights, in bfloat16.
const qwenBytes = 1.192e9

func examineMemory(e sysinfo.Environment) finding {
	rate := sysinfo.ReadBandwidth(256<<20, e.GoMaxProcs)
	f := found("memory", "%s, %s available; a plain loop reads %.0f GB/s now, and at that rate Qwen3-0.6B decodes %.0f tok/s",
		cli.Bytes(e.MemoryBytes), cli.Bytes(e.MemoryAvailableBytes), rate/1e9, rate/qwenBytes)
	if e.MemoryAvailableBytes > 0 && e.MemoryAvailableBytes < 2<<30 {
		return f.but("less than 2 GiB are available, too little for Qwen3-0.6B: close other programs, or use tiny")
	}
	return f
}

func examineGPU(g sysinfo.GPU) finding {
	switch {
	case len(g.Names) == 0 && g.Driver == "" && g.Library == "":
		return found("gpu", "no NVIDIA GPU or driver")
	case g.Driver == "":
		return found("gpu", "%s is here, but no driver is loaded", g.Library).but("load the NVIDIA driver, or give the container access to the GPU; until then the CPU is used")
	}
	f := found("gpu", "%s; driver %s", strings.Join(g.Names, ", "), g.Driver)
	if g.Library == "" {
		return f.but("libcuda.so.1 was not found: install the driver's user part, or run the container with --gpus all")
	}
	device, err := kernels.Open(kernels.Options{Device: "cuda"})
	if err != nil {
		return f.but(err.Error())
	}
	if version := device.Info().CuBLASLt; version != "" {
		f.Text += "; cuBLASLt " + version + " for products that it is faster at"
	}
	device.Close()
	return f
}

// examineCache looks at the folder that models are pulled into.
func examineCache(env hub.Env) []finding {
	if env.CacheDir == "" {
		return []finding{found("cache", "no folder for models").but("set HF_HOME to a folder on a large disk")}
	}
	models, err := hub.List(env)
	if err != nil {
		return []finding{found("cache", "%s: %v", env.CacheDir, err).but("make the folder readable, or set HF_HOME to another")}
	}
	f := found("cache", "%s: %d models", env.CacheDir, len(models))
	for _, m := range models {
		f.Text += fmt.Sprintf(", %s (%s)", m.Name, cli.Bytes(m.Bytes))
	}
	folder := existingFolder(env.CacheDir)
	disk := found("disk", "free space under %s is not known", folder)
	if free, err := sysinfo.FreeBytes(folder); err == nil {
		disk = found("disk", "%s free under %s", cli.Bytes(free), folder)
		if free < 4<<30 {
			disk = disk.but("free some space, or set HF_HOME to a folder on a larger disk: Qwen3-0.6B takes 1.5 GB, Qwen3-8B 16 GB")
		}
	}
	return []finding{f, disk}
}

// existingFolder is the folder itself or the nearest above it that is there.
func existingFolder(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// examineModel says what a command without --model would run.
func examineModel(env hub.Env) finding {
	var missing string
	ck, err := (&cli.EngineFlags{}).OpenModel(func(line string) { missing = line })
	if err != nil {
		return found("model", "%v", err).failed(cli.Explain(err).Hint)
	}
	defer ck.Close()
	f := found("model", "%s is what runs if no model is named", ck.Name)
	if ck.Name == tiny.Name && missing != "" {
		advice := "quire pull Qwen/Qwen3-0.6B gets a real one"
		if env.Offline {
			advice += "; unset HF_HUB_OFFLINE first"
		}
		return f.but(advice)
	}
	return f
}

// examineEngine asks the built-in model a question whose answer is known.
func examineEngine(ctx context.Context) finding {
	e, err := engine.Open(ctx, engine.Options{Model: tiny.Name, Providers: cli.Providers(), MaxContext: 256, MaxSequences: 1})
	if err != nil {
		return found("engine", "%v", err).failed(cli.Explain(err).Hint)
	}
	defer e.Close()
	const question, answer = "Ivan fills 9 jars with 2 roses each and then adds 39 loose roses. How many roses are there in all?", "57"
	results, err := e.Batch(ctx, []engine.Request{{Messages: []engine.Message{{Role: "user", Content: question}}}})
	if err != nil {
		return found("engine", "%v", err).failed(cli.Explain(err).Hint)
	}
	text := strings.TrimSpace(results[0].Text)
	if !strings.HasSuffix(text, "#### "+answer) {
		return found("engine", "tiny was asked %q and said %q", question, text).failed("this is a bug: please report it with the output of quire doctor -json")
	}
	return found("engine", "tiny solves a sum, %s", rate(results[0].Usage))
}
