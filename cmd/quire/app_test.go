package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/internal/cli"
)

const testdata = "../../model/testdata/"

// ran is what a command left behind.
type ran struct {
	exit           cli.Exit
	stdout, stderr string
}

// run runs the command in this process.
func run(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	return runWith(t, &App{Stdin: strings.NewReader(stdin), Args: args})
}

func runWith(t *testing.T, app *App) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app.Stdout, app.Stderr = &stdout, &stderr
	exit := app.Run(t.Context())
	return ran{exit, stdout.String(), stderr.String()}
}

// refused fails unless the command printed nothing but a line with what is wrong and one with what to do.
func (r ran) refused(t *testing.T, exit cli.Exit, says, hint string) {
	t.Helper()
	require.Equal(t, exit, r.exit, r.stderr)
	if !strings.HasPrefix(r.stdout, "reference: ") { // what verify begins with
		require.Empty(t, r.stdout)
	}
	r.told(t, says, hint)
}

func (r ran) told(t *testing.T, says, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	require.Len(t, lines, 2, "want an error and a hint: %q", r.stderr)
	require.True(t, strings.HasPrefix(lines[0], "error: "), lines[0])
	require.True(t, strings.HasPrefix(lines[1], "hint: "), lines[1])
	require.Contains(t, lines[0], says)
	require.Contains(t, lines[1], hint)
	require.NotContains(t, r.stderr, "goroutine ")
	require.NotContains(t, r.stderr, ".go:")
}

// copyGolden copies a golden checkpoint to a folder that the test may change.
func copyGolden(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.CopyFS(dir, os.DirFS(testdata+"goldens/"+name)))
	return dir
}

// editJSON changes a JSON file.
func editJSON(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(data, &object))
	change(object)
	data, err = json.Marshal(object)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// editTensor changes the bytes of one tensor of a safetensors file.
func editTensor(t *testing.T, path, name string, change func(data []byte)) {
	t.Helper()
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	headerBytes := binary.LittleEndian.Uint64(file)
	var header map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(file[8:8+headerBytes], &header))
	var tensor struct {
		DType   string
		Offsets [2]int `json:"data_offsets"`
	}
	require.Contains(t, header, name)
	require.NoError(t, json.Unmarshal(header[name], &tensor))
	require.Equal(t, "BF16", tensor.DType)
	body := file[8+headerBytes:]
	change(body[tensor.Offsets[0]:tensor.Offsets[1]])
	require.NoError(t, os.WriteFile(path, file, 0o600))
}

// setBF16 fills a tensor with one value.
func setBF16(value float32) func([]byte) {
	return func(data []byte) {
		for i := 0; i < len(data); i += 2 {
			binary.LittleEndian.PutUint16(data[i:], uint16(math.Float32bits(value)>>16))
		}
	}
}

// TestBadInput has a case for everything that a user can get wrong.
func TestBadInput(t *testing.T) {
	const golden = "qwen3-tied-gqa2"
	config := func(t *testing.T, change func(map[string]any)) string {
		dir := copyGolden(t, golden)
		editJSON(t, filepath.Join(dir, "config.json"), change)
		return dir
	}
	for _, c := range []struct {
		name  string
		args  func(t *testing.T) []string
		stdin string
		exit  cli.Exit
		says  string
		hint  string
	}{
		{name: "misspelt built-in model", args: words("run -model tniy hello"), exit: cli.NotFound, says: `"tniy"`, hint: "tiny"},
		{name: "misspelt synthetic model", args: words("inspect synthetic:qwen3-0.7b"), exit: cli.NotFound, says: "synthetic:qwen3-0.6b"},
		{name: "model that is not in the cache", args: words("run -model Qwen/Qwen9-1B hello"), exit: cli.NotFound, says: "Qwen/Qwen9-1B", hint: "quire pull Qwen/Qwen9-1B"},
		{name: "folder that is not there", args: words("inspect ./no/such/folder"), exit: cli.NotFound, says: "no/such/folder"},
		{name: "folder without a model", args: func(t *testing.T) []string { return []string{"inspect", t.TempDir()} }, exit: cli.BadModel, says: "config.json", hint: "directory"},
		{name: "unsupported architecture", args: func(t *testing.T) []string {
			return []string{"inspect", config(t, func(c map[string]any) { c["architectures"] = []string{"GPT2LMHeadModel"}; c["model_type"] = "gpt2" })}
		}, exit: cli.BadModel, says: "GPT2LMHeadModel", hint: "Qwen3"},
		{name: "truncated safetensors", args: func(t *testing.T) []string {
			dir := copyGolden(t, golden)
			require.NoError(t, os.Truncate(filepath.Join(dir, "model.safetensors"), 100_000))
			return []string{"inspect", dir}
		}, exit: cli.BadModel, says: "model.safetensors"},
		{name: "lying safetensors header", args: func(t *testing.T) []string {
			dir := copyGolden(t, golden)
			path := filepath.Join(dir, "model.safetensors")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			binary.LittleEndian.PutUint64(data, 1<<62)
			require.NoError(t, os.WriteFile(path, data, 0o600))
			return []string{"inspect", dir}
		}, exit: cli.BadModel, says: "model.safetensors"},
		{name: "shapes that contradict the config", args: func(t *testing.T) []string {
			return []string{"inspect", config(t, func(c map[string]any) { c["intermediate_size"] = 100 })}
		}, exit: cli.BadModel, says: "config.json wants"},
		{name: "pickled checkpoint", args: func(t *testing.T) []string {
			dir := copyGolden(t, golden)
			require.NoError(t, os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "pytorch_model.bin")))
			return []string{"run", "-model", dir, "hello"}
		}, exit: cli.BadModel, says: ".bin", hint: "safetensors"},
		{name: "weights that are not finite", args: func(t *testing.T) []string {
			dir := copyGolden(t, golden)
			editTensor(t, filepath.Join(dir, "model.safetensors"), "model.norm.weight", setBF16(float32(math.NaN())))
			return []string{"verify", dir, filepath.Join(dir, "golden.json")}
		}, exit: cli.Failed, says: "non-finite logit", hint: "inspect --check"},
		{name: "token outside the vocabulary", args: func(t *testing.T) []string {
			dir := copyGolden(t, golden)
			editCase(t, dir, func(c map[string]any) { c["token_ids"].([]any)[0] = 1e6 })
			return []string{"verify", dir, filepath.Join(dir, "golden.json")}
		}, exit: cli.Usage, says: "outside the vocabulary"},
		{name: "prompt longer than the context", args: words("run -model tiny -raw"), stdin: strings.Repeat("many words ", 3000), exit: cli.Usage,
			says: "This model's maximum context length is 4096 tokens. However, you requested", hint: "shorten the prompt"},
		{name: "answer that does not fit the context", args: words("run -model tiny -max-tokens 5000 hello"), exit: cli.Usage, says: "maximum context length is 4096 tokens"},
		{name: "context above the model's", args: words("run -model tiny -context 5000 hello"), exit: cli.Usage, says: "made for 4096 tokens", hint: "at most 4096"},
		{name: "cache smaller than the context", args: words("run -model tiny -context 64 -cache-tokens 32 hello"), exit: cli.Usage, says: "never holds", hint: "--cache-tokens"},
		{name: "context too large for memory", args: words("run -model synthetic:qwen3-8b -cache-tokens 2000000000 hello"), exit: cli.NoMemory, says: "would fit", hint: "--cache-tokens"},
		{name: "prompt that is not text", args: words("run -model tiny"), stdin: "\xff\xfe", exit: cli.Usage, says: "UTF-8"},
		{name: "no prompt", args: words("run -model tiny"), exit: cli.Usage, says: "empty", hint: "quire run"},
		{name: "two prompts", args: words("run -model tiny one two"), exit: cli.Usage, says: "2 arguments", hint: "quotes"},
		{name: "negative temperature", args: words("run -model tiny -temperature=-1 hello"), exit: cli.Usage, says: "Temperature"},
		{name: "wrong sampling, all at once", args: words("run -model tiny -top-p=2 -min-tokens=-1 hello"), exit: cli.Usage, says: "TopP must be 0 to 1, not 2; Sampling.MinTokens must be 0 or more"},
		{name: "no bias", args: words("run -model tiny -logit-bias=abc hello"), exit: cli.Usage, says: `"abc"`, hint: "quire tokenize"},
		{name: "negative number of tokens", args: words("run -model tiny -max-tokens=-1 hello"), exit: cli.Usage, says: "MaxTokens"},
		{name: "unknown command", args: words("rnu hello"), exit: cli.Usage, says: `"rnu"`, hint: "did you mean run?"},
		{name: "unknown flag", args: words("run -model tiny -temprature 1 hello"), exit: cli.Usage, says: "--temprature", hint: "did you mean --temperature?"},
		{name: "unknown strategy", args: words("run -model tiny -cache magic hello"), exit: cli.Usage, says: `"magic"`, hint: "standard"},
		{name: "unknown KV type", args: words("run -model tiny -kv fp4 hello"), exit: cli.Usage, says: `"fp4"`, hint: "bf16"},
		{name: "unknown attention", args: words("run -model tiny -attention none hello"), exit: cli.Usage, says: `"none"`, hint: "ordinary"},
		{name: "unknown block size", args: words("run -model tiny -block-tokens 17 hello"), exit: cli.Usage, says: "17", hint: "16, 32 or 64"},
		{name: "unknown device", args: words("run -model tiny -device tpu hello"), exit: cli.Usage, says: `"tpu"`},
		{name: "unknown kernel set", args: words("inspect tiny -kernel-set mmx"), exit: cli.Usage, says: `"mmx"`},
		{name: "golden file that is not there", args: words("verify tiny nowhere.json"), exit: cli.Failed, says: "nowhere.json", hint: "reference.py"},
		{name: "golden file that is none", args: words("verify tiny app_test.go"), exit: cli.Failed, says: "app_test.go"},
		{name: "verify without a golden file", args: words("verify tiny"), exit: cli.Usage, says: "1 arguments, want 2", hint: "MODEL GOLDEN.json"},
		{name: "tolerance of nothing", args: words("verify tiny " + testdata + "tiny-golden.json -tolerance 0"), exit: cli.Usage, says: "--tolerance"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HF_HUB_CACHE", t.TempDir())
			args := c.args(t)
			run(t, c.stdin, args...).refused(t, c.exit, c.says, c.hint)
		})
	}
}

func words(line string) func(*testing.T) []string {
	return func(*testing.T) []string { return strings.Fields(line) }
}

// editCase changes a golden's third case, which is long enough to have something of everything.
func editCase(t *testing.T, dir string, change func(map[string]any)) {
	t.Helper()
	editJSON(t, filepath.Join(dir, "golden.json"), func(file map[string]any) {
		change(file["cases"].([]any)[2].(map[string]any))
	})
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"-help"}, {"--help"}, {"-h"}} {
		r := run(t, "", args...)
		require.Equal(t, cli.OK, r.exit)
		require.Empty(t, r.stderr)
		for _, command := range []string{"run", "verify", "inspect", "version", "exit-codes", "completion"} {
			require.Contains(t, r.stdout, "\n  "+strings.TrimPrefix(command, "exit-codes"), args)
		}
	}
	for _, command := range []string{"run", "verify", "inspect", "version"} {
		r := run(t, "", "help", command)
		require.Equal(t, cli.OK, r.exit)
		require.Contains(t, r.stdout, "Examples:\n  quire "+command, "no example")
	}
	r := run(t, "", "help", "exit-codes")
	require.Equal(t, cli.OK, r.exit)
	require.Contains(t, r.stdout, cli.ExitTable())
	r = run(t, "", "completion", "bash")
	require.Equal(t, cli.OK, r.exit)
	require.Contains(t, r.stdout, "bash completion")
}

func TestVersion(t *testing.T) {
	r := run(t, "", "version")
	require.Equal(t, cli.OK, r.exit)
	require.Regexp(t, `^quire \S+\ncommit \S+.*\ngo1\.\S+ \w+/\w+\nkernels \w+`, r.stdout)
	var v version
	r = run(t, "", "version", "-json")
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &v))
	require.NotEmpty(t, v.Build.Commit)
	require.NotEmpty(t, v.KernelSet)
	run(t, "", "version", "now").refused(t, cli.Usage, "1 arguments, want 0", "quire version")
}

const (
	question = "Ivan fills 9 jars with 2 roses each and then adds 39 loose roses. How many roses are there in all?"
	answered = "9 * 2 = 18. 18 + 39 = 57.\n#### 57\n"
)

func TestRun(t *testing.T) {
	r := run(t, "", "run", "-model", "tiny", question)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, answered, r.stdout)
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if len(lines) == 3 { // built without a C compiler
		require.Contains(t, lines[2], "slow plain-Go kernels are in use")
		lines = lines[:2]
	}
	require.Len(t, lines, 2, r.stderr)
	require.Regexp(t, `^first token after \S+s, then \d+\.\d tok/s$`, lines[0])
	require.Regexp(t, `^35 prompt tokens, 0 of them cached; 26 completion tokens; cache standard, \w+ kernels, model tiny$`, lines[1])
}

func TestRunNamesTheWeights(t *testing.T) {
	r := run(t, "", "run", "-model", "tiny", "-weights", "int8", "-max-tokens", "1", question)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Regexp(t, `; cache standard, int8 weights, \w+ kernels, model tiny\n`, r.stderr)
}

func TestRunWays(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		stdout      string
	}{
		{"from standard input", question + "\n", []string{"run", "-m", "tiny", "-q"}, answered},
		{"stop string", "", []string{"run", "-model=tiny", "-quiet", "-stop", "####", question}, "9 * 2 = 18. 18 + 39 = 57.\n"},
		{"two stop strings", "", []string{"run", "--model=tiny", "-quiet", "-stop", "####", "-stop", "18 +", question}, "9 * 2 = 18. \n"},
		{"max tokens", "", []string{"run", "--model", "tiny", "-q", "-max-tokens", "4", question}, "9 * 2\n"},
		{"raw", "", []string{"run", "-model", "tiny", "-q", "-raw", "<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n"}, answered},
		{"f32 cache and large blocks", "", []string{"run", "-model", "tiny", "-q", "-kv", "f32", "-block-tokens", "64", "-context", "128", question}, answered},
		{"system text", "", []string{"run", "-model", "tiny", "-q", "-system", "Answer from the documents.",
			"Liam put 18 books into the orange tin.\nThe blue box holds 9 balls.\nHow many things are in the blue box?"}, "The blue box holds 9 balls.\n#### 9\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, c.stdin, c.args...)
			require.Equal(t, cli.OK, r.exit, r.stderr)
			require.Equal(t, c.stdout, r.stdout)
			require.Empty(t, r.stderr)
		})
	}
}

func TestRunIsRepeatable(t *testing.T) {
	sample := func(seed string) string {
		r := run(t, "", "run", "-model", "tiny", "-q", "-raw", "-temperature", "2", "-max-tokens", "12", "-seed", seed, "The blue box")
		require.Equal(t, cli.OK, r.exit, r.stderr)
		return r.stdout
	}
	require.Equal(t, sample("7"), sample("7"))
	require.NotEqual(t, sample("7"), sample("8"))
}

// TestRunSamples: the sampling flags reach the engine.
func TestRunSamples(t *testing.T) {
	sample := func(flags ...string) string {
		r := run(t, "", append([]string{"run", "-model", "tiny", "-q", "-raw", "-max-tokens", "12", "-seed", "7", "The blue box"}, flags...)...)
		require.Equal(t, cli.OK, r.exit, r.stderr)
		return r.stdout
	}
	greedy, hot := sample(), sample("-temperature", "2")
	require.NotEqual(t, greedy, hot)
	require.Equal(t, greedy, sample("-temperature", "2", "-top-k", "1"))
	require.Equal(t, sample("-temperature", "0.6", "-top-k", "20", "-top-p", "0.95"), sample("-recommended"))
	require.NotEqual(t, greedy, sample("-repetition-penalty", "5"))
}

func TestRunSaysSynthetic(t *testing.T) {
	r := run(t, "", "run", "-model", "synthetic:qwen3-0.6b:layers=1", "-max-tokens", "2", "-context", "64", "hi")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Contains(t, r.stderr, "synthetic: the weights are made up")
	require.Contains(t, r.stderr, "cut off")
}

// lines is a lineReader with a script: text to read, or something to do first.
type lines []any

func (l *lines) ReadLine() (string, error) {
	for len(*l) > 0 {
		next := (*l)[0]
		*l = (*l)[1:]
		if do, ok := next.(func()); ok {
			do()
			continue
		}
		return next.(string), nil
	}
	return "", io.EOF
}

// chatWith runs a chat with tiny and a script of lines.
func chatWith(t *testing.T, app *App, f runFlags, script ...any) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app.Stdout, app.Stderr = &stdout, &stderr
	f.Model, f.Context = "tiny", max(f.Context, 0)
	e, closeAll, err := app.openEngine(t.Context(), f)
	require.NoError(t, err)
	defer closeAll()
	l := lines(script)
	err = app.chat(t.Context(), e, f, &l)
	return ran{cli.Tell(&stderr, err), stdout.String(), stderr.String()}
}

func TestChat(t *testing.T) {
	r := chatWith(t, &App{}, runFlags{}, question, "", "  ", "/hello", "/bye", "never read")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, answered, r.stdout)
	require.Contains(t, r.stderr, "note: no command /hello")
	require.Contains(t, r.stderr, "35 prompt tokens")
}

func TestChatKeepsHistoryUntilCleared(t *testing.T) {
	r := chatWith(t, &App{}, runFlags{}, question, "And 1 + 1?", "/clear", question)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	var prompts []string
	for _, line := range strings.Split(r.stderr, "\n") {
		if tokens, _, ok := strings.Cut(line, " prompt tokens"); ok {
			prompts = append(prompts, tokens)
		}
	}
	require.Len(t, prompts, 3)
	require.Equal(t, "35", prompts[0])
	require.NotEqual(t, "35", prompts[1])
	require.Equal(t, "35", prompts[2])
	require.True(t, strings.HasPrefix(r.stdout, answered))
	require.True(t, strings.HasSuffix(r.stdout, answered))
}

func TestChatOutgrowsTheContext(t *testing.T) {
	r := chatWith(t, &App{}, runFlags{EngineFlags: cli.EngineFlags{Context: 80}, quiet: true},
		question, question, "/clear", question)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Contains(t, r.stderr, "/clear begins a new one")
	require.Equal(t, answered+answered, r.stdout)
}

// Ctrl-C stops an answer and not the chat.
func TestChatInterrupted(t *testing.T) {
	var interrupts int
	app := &App{Interrupts: func(ctx context.Context, _ ...os.Signal) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		if interrupts++; interrupts == 1 {
			cancel()
		}
		return ctx, cancel
	}}
	r := chatWith(t, app, runFlags{quiet: true}, question, "/clear", question)
	require.Equal(t, cli.OK, r.exit, r.stderr)
	require.Equal(t, answered, r.stdout)
	require.Equal(t, 2, interrupts)
}

func TestRunInterrupted(t *testing.T) {
	app := &App{Args: []string{"run", "-model", "tiny", "-q", question}, Interrupts: func(ctx context.Context, _ ...os.Signal) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	}}
	r := runWith(t, app)
	require.Equal(t, cli.Interrupted, r.exit)
	require.Empty(t, r.stderr)
}

func TestCtrlCClearsTheLine(t *testing.T) {
	keys, err := io.ReadAll(clearLine{strings.NewReader("abc\x03de\x03\x04")})
	require.NoError(t, err)
	require.Equal(t, "abc\x15de\x15\x04", string(keys))
}

func TestInspect(t *testing.T) {
	r := run(t, "", "inspect", "tiny", "-check")
	require.Equal(t, cli.OK, r.exit, r.stderr)
	for _, want := range []string{
		`architecture +Qwen3ForCausalLM`, `shape +4 layers, hidden 256, MLP 768, vocabulary 2048`, `rope +default, theta 1000000`,
		`context +4096 tokens`, `end of text +2041, 2039`, `parameters +4\.46 million`, `weights +8\.5 MiB as bfloat16, stored as BF16`,
		`tokenizer +2048 tokens, 2039 of them ordinary; chat template chatml`, `KV cache +4096 bytes a token`,
		`fits here +a context of 4096 tokens`, `\d+ at once of 512 tokens`, `check +all finite, 8\.5 MiB read`,
	} {
		require.Regexp(t, "(?m)"+want, r.stdout)
	}
}

func TestInspectJSON(t *testing.T) {
	for _, c := range []struct {
		model string
		check func(d description)
	}{
		{"tiny", func(d description) {
			require.Equal(t, 4096, d.Memory.KVBytesPerToken)
			require.Equal(t, int64(4459776), d.Parameters)
			require.Equal(t, []int32{2041, 2039}, d.EOS)
			require.Equal(t, 2039, d.Tokenizer.Ordinary)
			require.Equal(t, 4096, d.Memory.LargestContext)
			require.Len(t, d.Memory.LargestBatches, 2)
			require.Greater(t, d.Memory.LargestBatches[0].Sequences, d.Memory.LargestBatches[1].Sequences)
		}},
		{"synthetic:qwen3-0.6b", func(d description) {
			require.True(t, d.Synthetic)
			require.Equal(t, 114688, d.Memory.KVBytesPerToken)
			require.Equal(t, int64(596049920), d.Parameters)
		}},
		{testdata + "goldens/qwen3-moe", func(d description) {
			require.NotNil(t, d.Experts)
			require.Nil(t, d.Tokenizer)
		}},
		{testdata + "goldens/qwen3-yarn", func(d description) { require.EqualValues(t, "yarn", d.Rope.Type) }},
		{testdata + "goldens/qwen3-f16-file", func(d description) { require.EqualValues(t, "F16", d.StoredAs[0]) }},
	} {
		t.Run(c.model, func(t *testing.T) {
			r := run(t, "", "inspect", "-json", c.model)
			require.Equal(t, cli.OK, r.exit, r.stderr)
			require.Empty(t, r.stderr)
			var d description
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &d))
			c.check(d)
		})
	}
}

func TestInspectFindsWeightsThatAreNotFinite(t *testing.T) {
	dir := copyGolden(t, "qwen3-tied-gqa2")
	editTensor(t, filepath.Join(dir, "model.safetensors"), "model.layers.1.mlp.down_proj.weight", func(data []byte) {
		binary.LittleEndian.PutUint16(data[10:], 0x7f80) // +Inf
		binary.LittleEndian.PutUint16(data[20:], 0x7fc0) // NaN
	})
	r := run(t, "", "inspect", dir)
	require.Equal(t, cli.OK, r.exit, "nothing was asked for: %s", r.stderr)
	r = run(t, "", "inspect", dir, "-check")
	require.Equal(t, cli.BadModel, r.exit)
	require.Contains(t, r.stdout, "NOT FINITE in 1 tensors")
	r.told(t, `"model.layers.1.mlp.down_proj.weight" (1 NaN, 1 infinite`, "download")
}
