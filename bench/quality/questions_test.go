package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/model/chat"
	"github.com/quire-llm/quire/model/tiny"
	"github.com/quire-llm/quire/model/tokenizer"
)

func openSets(t *testing.T, most int) ([]set, *tokenizer.Tokenizer, *chat.Template) {
	t.Helper()
	s := defaults()
	require.NoError(t, s.findData())
	sets, err := readSets(s.data, most)
	require.NoError(t, err)
	text, err := tokenizer.Load(tiny.Files())
	require.NoError(t, err)
	template, err := chat.Parse(text.ChatTemplate())
	require.NoError(t, err)
	return sets, text, template
}

func TestSets(t *testing.T) {
	sets, _, _ := openSets(t, 0)
	require.Len(t, sets, 3)
	for i, want := range []struct {
		name      string
		questions int
	}{{"documents-4..16", 512}, {"documents-32..48", 256}, {"arithmetic-few-shot", 512 - exampleCount}} {
		require.Equal(t, want.name, sets[i].Name)
		require.Len(t, sets[i].Questions, want.questions)
	}
	require.Len(t, sets[2].Examples, exampleCount)
	for _, e := range sets[2].Examples {
		require.NotContains(t, sets[2].Questions, e, "an example is asked")
	}
}

// The parts of a prompt are the templated text, cut between tokens; the rounds have the same chunks in other orders.
func TestPrompts(t *testing.T) {
	sets, text, template := openSets(t, 5)
	tokens := func(s string) []int32 { return text.EncodeWith(nil, s, tokenizer.EncodeOptions{}) }
	for _, s := range sets {
		for _, members := range []int{1, 4, 8} {
			prompts, err := s.prompts(members, 3, 42, template)
			require.NoError(t, err)
			require.Len(t, prompts, 15)
			moved := false
			for i, p := range prompts {
				require.Equal(t, i/3, p.question)
				require.Equal(t, i%3, p.round)
				require.Equal(t, number(s.Questions[p.question].Answer), p.want)
				var apart []int32
				for _, part := range p.parts {
					apart = append(apart, tokens(part)...)
				}
				require.Equal(t, tokens(strings.Join(p.parts, "")), apart, "tokens go over the end of a chunk")
				if s.Examples != nil {
					require.Len(t, p.parts, 2+(examplesEach+members-1)/members)
					continue
				}
				first := prompts[i-p.round].parts
				require.Equal(t, strings.Join(s.Questions[p.question].Documents, "\n")+"\n", strings.Join(first[1:len(first)-1], ""), "the file's order")
				require.ElementsMatch(t, first, p.parts)
				moved = moved || !slices.Equal(first, p.parts)
			}
			require.True(t, moved || s.Examples != nil, "no chunk stands at another place")
		}
	}
	one, err := sets[0].prompts(1, 2, 42, template)
	require.NoError(t, err)
	fewer := set{Name: sets[0].Name, Questions: sets[0].Questions[:2]}
	two, err := fewer.prompts(1, 2, 42, template)
	require.NoError(t, err)
	require.Equal(t, one[:4], two, "prompts depend on how many there are")
	require.Equal(t, "<|im_start|>system\nAnswer from the documents.<|im_end|>\n<|im_start|>user\n", one[0].parts[0])
	require.True(t, strings.HasSuffix(one[0].parts[len(one[0].parts)-1], "?<|im_end|>\n<|im_start|>assistant\n"))
}

func TestNumber(t *testing.T) {
	for answer, want := range map[string]string{"1 + 1 = 2.\n#### 2": "2", "#### 3\n#### 12 \n": "12", "2": "", "": ""} {
		require.Equal(t, want, number(answer), "%q", answer)
	}
	require.Equal(t, 1, score("so 2 #### 2", "2"))
	require.Zero(t, score("so 2 #### 22", "2"))
	require.Zero(t, score("", ""), "nothing is not right")
}
