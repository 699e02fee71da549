// Package golden decides whether a model computes what the reference implementation computed.
//
// A golden file holds what transformers made of a checkpoint: the log-probability of every prompt token, the largest
// logits after the prompt, and the greedy continuation with the margin between the first and the second choice at each
// step. The comparison is teacher-forced: whoever observes a model feeds it the reference's tokens, so that one near-tie
// cannot send everything after it down another path. The package does not care whether a model, an engine or a server
// was observed.
package golden

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
)

// File is a golden file.
type File struct {
	MadeWith string
	// BF16Error is by how much the reference's own bfloat16 run misses its float32 run, over all tokens but the first of
	// each case; numbers that were not recorded are zero.
	BF16Error Error
	// RoundedRope says that the reference computed with rotary frequencies rounded to bfloat16. A PyTorch model that is
	// cast as a whole (model.bfloat16().float(), to round its weights) has its frequencies rounded with them, unlike one
	// that is loaded from a bfloat16 file. Whoever compares must round them too, or miss the reference by 0.01 nats.
	RoundedRope bool
	Cases       []Case
}

// Error is a distribution of |Δ log p|, in nats.
type Error struct {
	Mean float64 `json:"mean"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Case is one prompt and what the reference made of it.
//
//	tokens   |.......... Tokens ..........|.... Greedy ....|
//	compared   PromptLogprobs[1:]       Top  GreedyLogprobs, argmax against Greedy
type Case struct {
	Prompt         string    // the text that Tokens came from; empty for random tokens
	Tokens         []int32   // the prompt
	PromptLogprobs []float64 // [len(Tokens)] of each token after those before it; the first is meaningless
	Top            []Logit   // largest logits after the prompt, in falling order
	Greedy         []int32   // the greedy continuation; it may end early, with an end-of-sequence token
	GreedyLogprobs []float64 // [len(Greedy)], or nil where not recorded
	Margins        []float64 // [len(Greedy)] by how much the most likely token's logit leads the second
}

// Logit is a token and its logit.
type Logit struct {
	Token int32
	Logit float64
}

// Open reads a golden file and checks that its parts fit together.
func Open(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("golden: reading %q: %w", path, err)
	}
	return f, nil
}

// Parse reads a golden file's content and checks that its parts fit together.
func Parse(data []byte) (*File, error) {
	var stored struct {
		MadeWith  string    `json:"made_with"`
		BF16Error Error     `json:"bf16_abs_logprob_error"`
		BF16Means []float64 `json:"bf16_mean_abs_logprob_error"` // [cases]
		Cases     []struct {
			Prompt         string          `json:"prompt"`
			TokenIDs       []int32         `json:"token_ids"`
			PromptLogprobs []*float64      `json:"prompt_logprobs"`
			LastLogitsTop8 [][]json.Number `json:"last_logits_top8"`
			GreedyTokenIDs []int32         `json:"greedy_token_ids"`
			GreedyLogprobs []float64       `json:"greedy_logprobs"`
			Margins        []float64       `json:"greedy_top1_margin"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, err
	}
	f := &File{
		MadeWith: stored.MadeWith, BF16Error: stored.BF16Error,
		RoundedRope: strings.HasSuffix(stored.MadeWith, "from weights rounded to bfloat16"),
	}
	if len(stored.Cases) == 0 {
		return nil, fmt.Errorf("no cases")
	}
	for i, s := range stored.Cases {
		c := Case{
			Prompt: s.Prompt, Tokens: s.TokenIDs, Greedy: s.GreedyTokenIDs,
			GreedyLogprobs: s.GreedyLogprobs, Margins: s.Margins,
		}
		for j, p := range s.PromptLogprobs {
			switch {
			case p != nil:
				c.PromptLogprobs = append(c.PromptLogprobs, *p)
			case j == 0:
				c.PromptLogprobs = append(c.PromptLogprobs, 0)
			default:
				return nil, fmt.Errorf("case %d: prompt_logprobs[%d] is null", i, j)
			}
		}
		for _, pair := range s.LastLogitsTop8 {
			l, err := parseLogit(pair)
			if err != nil {
				return nil, fmt.Errorf("case %d: last_logits_top8: %w", i, err)
			}
			c.Top = append(c.Top, l)
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("case %d: %w", i, err)
		}
		f.Cases = append(f.Cases, c)
	}
	switch len(stored.BF16Means) {
	case 0:
	case len(f.Cases):
		f.BF16Error.Mean = weightedMean(stored.BF16Means, f.Cases)
	default:
		return nil, fmt.Errorf("%d bf16_mean_abs_logprob_error for %d cases", len(stored.BF16Means), len(f.Cases))
	}
	return f, nil
}

// weightedMean is the mean over all tokens of means by case.
func weightedMean(means []float64, cases []Case) float64 {
	var sum, tokens float64
	for i, c := range cases {
		n := float64(len(c.Tokens) + len(c.Greedy) - 1)
		sum += n * means[i]
		tokens += n
	}
	return sum / tokens
}

// check says which parts of a case do not fit together. A case that compares nothing is refused.
func (c *Case) check() error {
	switch {
	case len(c.Tokens) == 0:
		return fmt.Errorf("no token_ids")
	case len(c.PromptLogprobs) != len(c.Tokens):
		return fmt.Errorf("%d prompt_logprobs for %d token_ids", len(c.PromptLogprobs), len(c.Tokens))
	case len(c.Margins) != len(c.Greedy):
		return fmt.Errorf("%d greedy_top1_margin for %d greedy_token_ids", len(c.Margins), len(c.Greedy))
	case len(c.GreedyLogprobs) != 0 && len(c.GreedyLogprobs) != len(c.Greedy):
		return fmt.Errorf("%d greedy_logprobs for %d greedy_token_ids", len(c.GreedyLogprobs), len(c.Greedy))
	case len(c.Tokens) == 1 && len(c.Top) == 0 && len(c.Greedy) == 0:
		return fmt.Errorf("nothing to compare")
	}
	return nil
}

// parseLogit reads a pair [token, logit].
func parseLogit(pair []json.Number) (Logit, error) {
	if len(pair) != 2 {
		return Logit{}, fmt.Errorf("got %d numbers, want [token, logit]", len(pair))
	}
	token, err := pair[0].Int64()
	if err != nil || token < 0 || token > math.MaxInt32 {
		return Logit{}, fmt.Errorf("token %q is not a token id", pair[0])
	}
	logit, err := pair[1].Float64()
	if err != nil {
		return Logit{}, fmt.Errorf("logit %q is not a number", pair[1])
	}
	return Logit{Token: int32(token), Logit: logit}, nil
}
