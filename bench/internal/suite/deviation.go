package suite

import (
	"context"
	"fmt"
	"math"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/stats"
)

// Deviation is how far from the standard strategy an approximate one is, when both are made to give the standard's answers
// (teacher forcing): so a token that differs does not count for all those after it.
type Deviation struct {
	Tokens       int     `json:"tokens"`            // compared
	SameArgmax   float64 `json:"same_argmax_ratio"` // of the tokens: the most likely one is the same
	MeanLogprob  float64 `json:"mean_abs_logprob_difference"`
	P99Logprob   float64 `json:"p99_abs_logprob_difference"`
	WorstLogprob float64 `json:"max_abs_logprob_difference"`
}

func (d *Deviation) line() string {
	return fmt.Sprintf("Approximate: over %d tokens of standard's answers the most likely one is the same in %.1f%%; log-probabilities differ by %.4f on average, %.4f at p99",
		d.Tokens, 100*d.SameArgmax, d.MeanLogprob, d.P99Logprob)
}

// deviate measures the benchmark's strategy on the answers of a standard sample.
func (s *session) deviate(ctx context.Context, p Point, standard Sample) (*Deviation, error) {
	want, err := s.follow(ctx, p, standard.results, s.standardOptions())
	if err != nil {
		return nil, err
	}
	got, err := s.follow(ctx, p, standard.results, s.options)
	if err != nil {
		return nil, err
	}
	same := 0
	differences := make([]float64, len(want))
	for i := range want {
		differences[i] = math.Abs(float64(got[i].Logprob - want[i].Logprob))
		if got[i].Argmax == want[i].Argmax {
			same++
		}
	}
	spread := stats.Summarize(differences)
	return &Deviation{
		Tokens:       len(want),
		SameArgmax:   float64(same) / float64(max(len(want), 1)),
		MeanLogprob:  spread.Mean,
		P99Logprob:   spread.P99,
		WorstLogprob: spread.Max,
	}, nil
}

// follow makes an engine give the answers and returns what it thinks of each of their tokens, in order.
func (s *session) follow(ctx context.Context, p Point, answers []engine.Result, options engine.Options) ([]engine.Token, error) {
	e, err := engine.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	var tokens []engine.Token
	next := 0
	for _, batch := range p.Batches {
		for _, request := range batch {
			request.Force, request.MaxTokens = answers[next].Tokens, 0
			next++
			for token, err := range e.Generate(ctx, request) {
				if err != nil {
					return nil, err
				}
				if token.ID >= 0 {
					tokens = append(tokens, token)
				}
			}
		}
	}
	return tokens, nil
}
