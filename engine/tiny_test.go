package engine

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

// testDevice is where the tests that open the built-in model run it: the environment variable QUIRE_TEST_DEVICE, or the
// CPU, whose bits do not depend on the batch.
func testDevice() string { return cmp.Or(os.Getenv("QUIRE_TEST_DEVICE"), "cpu") }

// openTiny opens the built-in model with the books checked after every step; change may set options. It is closed with
// the test.
func openTiny(t testing.TB, change func(*Options)) *Engine {
	t.Helper()
	o := Options{
		Model: tiny.Name, Providers: []model.Provider{tiny.Provider{}}, CheckInvariants: true,
		DeviceOptions: kernels.Options{Device: testDevice()},
	}
	if change != nil {
		change(&o)
	}
	e, err := Open(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// evaluation is a question with its answer, which ends in "#### N".
type evaluation struct {
	Documents []string
	Question  string
	Answer    string
}

// evaluations reads a set of questions from the model's test data; the first few in short tests.
func evaluations(t testing.TB, name string) []evaluation {
	t.Helper()
	file, err := os.Open("../model/testdata/evals/" + name)
	require.NoError(t, err)
	defer file.Close()
	var all []evaluation
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var e evaluation
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		all = append(all, e)
	}
	if testing.Short() {
		all = all[:8]
	}
	return all
}

// messages are the question in the form that the model was trained on.
func (e evaluation) messages() []Message {
	if len(e.Documents) == 0 {
		return []Message{{"user", e.Question}}
	}
	return []Message{
		{"system", "Answer from the documents."},
		{"user", strings.Join(e.Documents, "\n") + "\n" + e.Question},
	}
}

// number is what follows the last "####" of an answer.
func number(answer string) string {
	_, after, found := strings.Cut(answer, "####")
	if !found {
		return "no ####"
	}
	return strings.TrimSpace(after)
}

// TestEvaluations asks the built-in model everything that it was made to know.
func TestEvaluations(t *testing.T) {
	type set struct {
		name      string
		weights   kernels.Format
		kv        kernels.KVType
		questions int
		least     float64 // share that must be right
	}
	sets := []set{
		{"arithmetic_test.jsonl", kernels.BF16, kernels.KVBF16, 512, 1},
		{"documents_test.jsonl", kernels.BF16, kernels.KVBF16, 768, 0.995},
		{"arithmetic_test.jsonl", kernels.Int8, kernels.KVBF16, 512, 1},
		{"documents_test.jsonl", kernels.Int8, kernels.KVBF16, 768, 0.995},
		{"arithmetic_test.jsonl", kernels.BF16, kernels.KVI8, 512, 0.995},
		{"documents_test.jsonl", kernels.BF16, kernels.KVI8, 768, 0.995},
	}
	if testDevice() == "cuda" { // bfloat16 on the way, and no int8
		sets = []set{
			{"arithmetic_test.jsonl", kernels.BF16, kernels.KVBF16, 512, 0.99},
			{"documents_test.jsonl", kernels.BF16, kernels.KVBF16, 768, 0.99},
			{"arithmetic_test.jsonl", kernels.BF16, kernels.KVFP8, 512, 0.985},
			{"documents_test.jsonl", kernels.BF16, kernels.KVFP8, 768, 0.985},
		}
	}
	for _, c := range sets {
		t.Run(fmt.Sprintf("%s/%v/kv=%v", c.name, c.weights, c.kv), func(t *testing.T) {
			e := openTiny(t, func(o *Options) { o.CheckInvariants, o.Weights, o.KV = false, c.weights, c.kv })
			require.Equal(t, c.weights.String(), e.Stats().Weights)
			questions := evaluations(t, c.name)
			if !testing.Short() {
				require.Len(t, questions, c.questions)
			} else if c.weights != kernels.BF16 || c.kv != kernels.KVBF16 {
				questions = questions[:2] // more of each kind is for the long run
			}
			requests := make([]Request, len(questions))
			for i, q := range questions {
				requests[i] = Request{Messages: q.messages(), MaxTokens: 200}
			}
			start := time.Now()
			results, err := e.Batch(context.Background(), requests)
			require.NoError(t, err)
			right := 0
			for i, r := range results {
				if got, want := number(r.Text), number(questions[i].Answer); got == want {
					right++
				} else {
					t.Logf("question %d: %s\ngot  %q\nwant %q", i, questions[i].Question, r.Text, questions[i].Answer)
				}
			}
			stats := e.Stats()
			t.Logf("%d of %d right; %d tokens computed in %d steps, %v", right, len(questions), stats.TokensComputed, stats.Steps, time.Since(start).Round(time.Millisecond))
			require.GreaterOrEqual(t, float64(right), c.least*float64(len(questions)))
		})
	}
}

// TestIdentityKnowsTheWeights: keys and values of one format of weights are not those of another.
func TestIdentityKnowsTheWeights(t *testing.T) {
	ck, err := tiny.Provider{}.Open(tiny.Name)
	require.NoError(t, err)
	defer ck.Close()
	plain := identity(ck, Options{Weights: kernels.BF16}, "cpu")
	require.Equal(t, plain, identity(ck, Options{Weights: kernels.BF16, MaxContext: 100}, "cpu"))
	require.NotEqual(t, plain, identity(ck, Options{Weights: kernels.Int8}, "cpu"))
	require.NotEqual(t, plain, identity(ck, Options{Weights: kernels.BF16, KV: kernels.KVF32}, "cpu"))
	require.NotEqual(t, plain, identity(ck, Options{Weights: kernels.BF16}, "cuda"), "whose blocks are laid out in another way")
	_, err = Open(context.Background(), Options{Checkpoint: ck, Weights: 9})
	require.ErrorContains(t, err, "Weights is 9, which is no format")
}
