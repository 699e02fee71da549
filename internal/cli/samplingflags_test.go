package cli

import (
	"math"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/model"
)

func TestSamplingFlags(t *testing.T) {
	qwen := model.Generation{Temperature: new(0.6), TopK: new(20), TopP: new(0.95), DoSample: new(true)}
	for _, c := range []struct {
		name       string
		args       []string
		generation model.Generation
		want       engine.Sampling
		says       string // of an error
	}{
		{name: "nothing", generation: qwen},
		{
			name: "everything",
			args: []string{"--temperature=0.5", "--seed=7", "--top-k=3", "--top-p=0.9", "--min-p=0.1", "--typical-p=0.8", "--repetition-penalty=1.2",
				"--presence-penalty=-1", "--frequency-penalty=0.5", "--logit-bias=5=-inf", "--logit-bias=6=1.5", "--min-tokens=4"},
			want: engine.Sampling{Temperature: 0.5, Seed: 7, TopK: 3, TopP: 0.9, MinP: 0.1, TypicalP: 0.8, RepetitionPenalty: 1.2, PresencePenalty: -1,
				FrequencyPenalty: 0.5, LogitBias: map[int32]float32{5: float32(math.Inf(-1)), 6: 1.5}, MinTokens: 4},
		},
		{name: "recommended", args: []string{"--recommended"}, generation: qwen, want: engine.Sampling{Temperature: 0.6, TopK: 20, TopP: 0.95}},
		{name: "recommended but for the flags", args: []string{"--recommended", "--top-k=0", "--temperature=1"}, generation: qwen, want: engine.Sampling{Temperature: 1, TopP: 0.95}},
		{name: "greedy recommended", args: []string{"--recommended"}, generation: model.Generation{DoSample: new(false), TopK: new(5)}},
		{name: "no top-k recommended", args: []string{"--recommended"}, generation: model.Generation{TopK: new(-1)}, want: engine.Sampling{Temperature: 1}},
		{name: "nothing recommended", args: []string{"--recommended"}, says: "no generation_config.json"},
		{name: "no bias", args: []string{"--logit-bias=5"}, says: `--logit-bias "5" is no token id`},
		{name: "no token", args: []string{"--logit-bias=a=5"}, says: `--logit-bias "a=5"`},
		{name: "a token too large", args: []string{"--logit-bias=3000000000=5"}, says: `--logit-bias "3000000000=5"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f SamplingFlags
			set := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.RegisterSampling(set)
			require.NoError(t, set.Parse(c.args))
			got, err := f.Sampling()
			if err == nil {
				err = f.Recommend(&got, c.generation)
			}
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
