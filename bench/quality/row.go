package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
	"github.com/quire-llm/quire/internal/stats"
	"github.com/quire-llm/quire/internal/sysinfo"
)

// row is an object of results_quality.json: a model, a set of questions, a size of chunks and a mode.
type row struct {
	Model          string `json:"model"`
	Set            string `json:"set"`
	ChunkMembers   int    `json:"chunk_members"` // documents or examples in a chunk
	Mode           string `json:"mode"`
	RecomputeFirst int    `json:"recompute_first"`
	HeadGap        int    `json:"head_gap"` // positions between the head and the chunk

	Questions      int           `json:"questions"`
	Requests       int           `json:"requests"` // each question once a round
	Accuracy       float64       `json:"accuracy"`
	AccuracyRounds []float64     `json:"accuracy_rounds"`         // the first has the chunks in the file's order
	Difference     interval      `json:"accuracy_minus_exact_95"` // paired over questions
	GreedyMatch    float64       `json:"greedy_match"`            // share of answers that are exact's, token by token
	KL             stats.Summary `json:"kl_nats"`                 // KL(exact || this) of each token of exact's answers

	PromptTokens         int   `json:"prompt_tokens"`
	PromptTokensComputed int64 `json:"prompt_tokens_computed"` // with those that are computed twice
	TokensComputed       int64 `json:"tokens_computed"`        // of prompts and answers, counted in the forward pass
	TokensReused         int64 `json:"tokens_reused"`          // of prompts, as the requests' usage tells
	OutputTokens         int   `json:"total_output_tokens"`    // of exact's answers, which the counts above belong to

	FirstRoundTTFT stats.Summary `json:"time_to_first_token_first_round"` // seconds; the question's chunks are new
	LaterTTFT      stats.Summary `json:"time_to_first_token"`             // seconds; of the later rounds, if there are any

	SchemaVersion   int                 `json:"schema_version"`
	Strategy        string              `json:"strategy"`
	Exact           bool                `json:"exact"` // all answers saw nothing but their whole past
	Device          string              `json:"device"`
	DeviceName      string              `json:"device_name"`
	Driver          string              `json:"driver,omitempty"`
	KernelSet       string              `json:"kernel_set"`
	KernelReason    string              `json:"kernel_set_reason,omitempty"`
	Products        string              `json:"products"`
	Threads         int                 `json:"threads"`
	Weights         string              `json:"weights"`
	KV              string              `json:"kv"`
	KVBlockTokens   int                 `json:"kv_block_tokens"`
	KVBytesPerToken int                 `json:"kv_bytes_per_token"`
	Environment     sysinfo.Environment `json:"environment"`
	Settings        settings            `json:"settings"`
	Seed            int64               `json:"seed"`

	mode    mode
	details suite.Details
}

// newRow compares a run with the exact one.
func (b *bench) newRow(s *set, members int, m mode, prompts []prompt, got, reference *run) row {
	d, as := b.rig.Details(), b.rig.Settings()
	r := row{
		Model: b.model, Set: s.Name, ChunkMembers: members, Mode: m.Name, RecomputeFirst: m.RecomputeFirst, HeadGap: m.HeadGap,
		Questions: len(s.Questions), Requests: len(prompts), TokensComputed: got.computed, Exact: true,
		SchemaVersion: suite.SchemaVersion, Strategy: m.strategy().Name(),
		Device: d.Device, DeviceName: d.DeviceName, Driver: d.Driver, KernelSet: d.KernelSet, KernelReason: d.KernelReason,
		Products: d.Products, Threads: d.Threads, Weights: as.Weights, KV: as.KV, KVBlockTokens: d.KVBlockTokens,
		KVBytesPerToken: d.KVBytesPerToken, Environment: d.Environment, Settings: b.settings, Seed: b.settings.Seed,
		mode: m, details: d,
	}
	rounds := b.settings.Rounds
	rightIn := make([]int, rounds)
	differences := make([]float64, len(s.Questions))
	var first, later, kl []float64
	same := 0
	for i, p := range prompts {
		a, want, led := got.answers[i], reference.answers[i], got.led[i]
		right := score(a.text, p.want)
		rightIn[p.round] += right
		differences[p.question] += float64(right-score(want.text, p.want)) / float64(rounds)
		if slices.Equal(a.tokens, want.tokens) {
			same++
		}
		for k := range led {
			kl = append(kl, divergence(reference.led[i][k], led[k]))
		}
		result := led[len(led)-1].Result
		r.PromptTokens += result.Usage.PromptTokens
		r.TokensReused += int64(result.Usage.CachedTokens)
		r.OutputTokens += len(led)
		r.Exact = r.Exact && result.Exact
	}
	for i, took := range got.first {
		if prompts[i].round == 0 {
			first = append(first, took.Seconds())
		} else {
			later = append(later, took.Seconds())
		}
	}
	// The last token of an answer is not computed on.
	r.PromptTokensComputed = r.TokensComputed - int64(r.OutputTokens-len(prompts))
	for _, n := range rightIn {
		r.AccuracyRounds = append(r.AccuracyRounds, float64(n)/float64(len(s.Questions)))
	}
	r.Accuracy = stats.Mean(r.AccuracyRounds)
	r.Difference = paired(differences)
	r.GreedyMatch = float64(same) / float64(len(prompts))
	r.KL = stats.Summarize(kl)
	r.FirstRoundTTFT, r.LaterTTFT = stats.Summarize(first), stats.Summarize(later)
	return r
}

// score is 1 for an answer that ends in the right number.
func score(answer, want string) int {
	if want != "" && number(answer) == want {
		return 1
	}
	return 0
}

// computedShare is prompt tokens computed, as a share of those asked.
func (r *row) computedShare() float64 {
	return float64(r.PromptTokensComputed) / float64(max(r.PromptTokens, 1))
}

func (b *bench) printHeader() {
	d, as := b.rig.Details(), b.rig.Settings()
	if len(b.rows) > 0 {
		fmt.Fprintln(b.text)
	}
	fmt.Fprintf(b.text, "Model: %s\n", b.model)
	suite.PrintMachine(b.text, d)
	fmt.Fprintf(b.text, "Weights: %s. KV cache: %s in blocks of %d tokens. Seed %d\n", as.Weights, as.KV, d.KVBlockTokens, b.settings.Seed)
}

const (
	headingFormat = "%-16s %8s  %-22s %6s  %9s %8s  %8s %8s  %9s %9s\n"
	rowFormat     = "%-16s %7.2f%%  %+6.2f [%+6.2f, %+6.2f] %5.1f%%  %9.2g %8.2g  %8d %8d  %6.2f ms %6.2f ms\n"
)

func (b *bench) printHeading(s *set, members int, reference *run) {
	tokens := 0
	for _, led := range reference.led {
		tokens += led[len(led)-1].Result.Usage.PromptTokens
	}
	kind := "documents"
	if s.Examples != nil {
		kind = "worked examples"
	}
	fmt.Fprintf(b.text, "\n--- %s, %s: chunks of %d %s, %d questions asked %d times, %d prompt tokens ---\n",
		b.model, s.Name, members, kind, len(s.Questions), b.settings.Rounds, tokens)
	fmt.Fprintf(b.text, headingFormat, "chunks read", "right", "  - exact, 95 %", "same", "KL mean", "p99", "computed", "reused", "new", "again")
}

func printRow(w io.Writer, r row) {
	d := r.Difference
	fmt.Fprintf(w, rowFormat, r.mode.label(), 100*r.Accuracy, 100*d.Value, 100*d.Low, 100*d.High, 100*r.GreedyMatch, r.KL.Mean, r.KL.P99,
		r.PromptTokensComputed, r.TokensReused, 1000*r.FirstRoundTTFT.P50, 1000*r.LaterTTFT.P50)
}

// printFoot says what the columns are.
func printFoot(w io.Writer) {
	fmt.Fprint(w, `
right: answers with the right number. - exact: points more than exact chunks, with the paired 95 % interval over questions
(Agresti and Min 2005). same: answers that are those of exact chunks, token by token. KL: nats for each token of exact's
answers, teacher-forced. computed, reused: prompt tokens. new, again: median time to the first token in the first round,
where a question's chunks are new, and in later ones.
`)
}

// writeBenchfmt writes every row as a line of Go's benchmark format. https://go.dev/design/14313-benchmark-format
func writeBenchfmt(w io.Writer, rows []row) error {
	var text strings.Builder
	suite.WriteConfig(&text, rows[0].details)
	text.WriteString("Unit right% better=higher\nUnit same% better=higher\nUnit mnats better=lower\nUnit ttft-ms better=lower\nUnit prompt-tokens better=lower\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "BenchmarkQuality/model=%s/set=%s/chunk=%d/mode=%s/gap=%d/again=%d 1 %.3f right%% %.3f same%% %.5f mnats %.3f ttft-ms %d prompt-tokens\n",
			r.Model, r.Set, r.ChunkMembers, r.Mode, r.HeadGap, r.RecomputeFirst, 100*r.Accuracy, 100*r.GreedyMatch, 1000*r.KL.Mean, 1000*r.LaterTTFT.P50, r.PromptTokensComputed)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
