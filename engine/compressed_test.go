package engine

import (
	"context"

	"math"

	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kernels"
)

// TestCompressedKV feeds the answers that a bfloat16 cache gives to an engine with a compressed one, and bounds how far its
// distributions are from the others': the Kullback-Leibler divergence in nats a token, over the 64 most likely tokens and all
// others together. On the CPU that is int8, on a GPU float8.
func TestCompressedKV(t *testing.T) {
	kv := kernels.KVI8
	if testDevice() == "cuda" {
		kv = kernels.KVFP8
	}
	for _, name := range []string{"arithmetic_test.jsonl", "documents_test.jsonl"} {
		t.Run(name, func(t *testing.T) {
			questions := evaluations(t, name)
			questions = questions[:min(len(questions), 64)]
			var requests []Request
			for _, q := range questions {
				requests = append(requests, Request{Messages: q.messages(), MaxTokens: 200, Logprobs: 64})
			}
			answers := func(kv kernels.KVType) [][]Token {
				e := openTiny(t, func(o *Options) { o.KV = kv })
				var all [][]Token
				for _, r := range requests {
					var tokens []Token
					for token, err := range e.Generate(context.Background(), r) {
						require.NoError(t, err)
						if token.ID >= 0 {
							tokens = append(tokens, token)
						}
					}
					all = append(all, tokens)
				}
				return all
			}
			want := answers(kernels.KVBF16)
			for i := range requests {
				for _, token := range want[i] {
					requests[i].Force = append(requests[i].Force, token.ID)
				}
				requests[i].MaxTokens = 0
			}
			got := answers(kv)
			sum, largest, tokens := 0.0, 0.0, 0
			for i := range want {
				require.Len(t, got[i], len(want[i]))
				for k := range want[i] {
					d := divergence(want[i][k].Top, got[i][k].Top)
					sum, largest, tokens = sum+d, max(largest, d), tokens+1
				}
			}
			t.Logf("%s, %v beside bf16: %d tokens, KL divergence mean %.3g nats, largest %.3g", name, kv, tokens, sum/float64(tokens), largest)
			require.Greater(t, tokens, 4*len(want))
			require.Less(t, sum/float64(tokens), 0.002)
		})
	}
}

// divergence is KL(p || q) over p's tokens that q has too, and the rest as one.
func divergence(p, q []TokenLogprob) float64 {
	known := map[int32]float64{}
	for _, c := range q {
		known[c.ID] = float64(c.Logprob)
	}
	d, pRest, qRest := 0.0, 1.0, 1.0
	for _, c := range p {
		if other, ok := known[c.ID]; ok {
			lp := float64(c.Logprob)
			d += math.Exp(lp) * (lp - other)
			pRest -= math.Exp(lp)
			qRest -= math.Exp(other)
		}
	}
	if pRest > 1e-9 {
		d += pRest * (math.Log(pRest) - math.Log(max(qRest, 1e-9)))
	}
	return d
}
