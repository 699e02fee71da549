package fair

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// ids are n token ids from first on.
func ids(first, n int) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(first + i)
	}
	return all
}

func TestExpected(t *testing.T) {
	const block = 4
	cascade, reuse := sharing{prefixes: true}, sharing{prefixes: true, keeps: true}
	chunked := sharing{chunks: true, keeps: true}
	same := func(p prompt, n int) (batch []prompt) {
		for range n {
			batch = append(batch, p)
		}
		return batch
	}
	for _, c := range []struct {
		name    string
		sharing sharing
		batches [][]prompt
		answer  []int32 // to each
		want    int64
	}{
		{"nothing is shared", sharing{}, [][]prompt{same(prompt{ids(0, 8)}, 3)}, ids(90, 1), 24},
		{"answers but for their last token", sharing{}, [][]prompt{same(prompt{ids(0, 8)}, 3)}, ids(90, 5), 24 + 3*4},
		{"a full hit computes one token", cascade, [][]prompt{same(prompt{ids(0, 8)}, 3)}, ids(90, 1), 8 + 1 + 1},
		{"a token less than full", cascade, [][]prompt{same(prompt{ids(0, 7)}, 3)}, ids(90, 1), 7 + 3 + 3},
		{"a token more than full", cascade, [][]prompt{same(prompt{ids(0, 9)}, 3)}, ids(90, 1), 9 + 1 + 1},
		{"a prefix that ends in a block", cascade, [][]prompt{{{ids(0, 6), ids(50, 4)}, {ids(0, 6), ids(70, 4)}}}, ids(90, 1), 10 + 6},
		{"three levels", cascade, [][]prompt{{
			{ids(0, 4), ids(10, 4), ids(20, 2)}, {ids(0, 4), ids(10, 4), ids(30, 2)}, {ids(0, 4), ids(40, 4), ids(20, 2)},
		}}, ids(90, 1), 10 + 2 + 6},
		{"the same block after another", cascade, [][]prompt{{{ids(0, 4), ids(20, 4)}, {ids(10, 4), ids(20, 4)}}}, ids(90, 1), 16},
		{"cascade forgets a batch", cascade, [][]prompt{same(prompt{ids(0, 8)}, 1), same(prompt{ids(0, 8)}, 1)}, ids(90, 1), 16},
		{"reuse does not", reuse, [][]prompt{same(prompt{ids(0, 8)}, 1), same(prompt{ids(0, 8)}, 1)}, ids(90, 1), 8 + 1},
		{"an answer is found, but for its last token", reuse, [][]prompt{
			{{ids(0, 5)}}, {{ids(0, 5), ids(90, 4), ids(40, 2)}},
		}, ids(90, 4), 5 + 3 + (11 - 8) + 3},
		{"an answer's last token completes no block", reuse, [][]prompt{
			{{ids(0, 4)}}, {{ids(0, 4), ids(90, 4), ids(40, 2)}},
		}, ids(90, 4), 4 + 3 + (10 - 4) + 3},
		{"chunks are shared to their last token", chunked, [][]prompt{{{ids(0, 6), ids(50, 4)}, {ids(0, 6), ids(70, 4)}}}, ids(90, 1), 10 + 4},
		{"a chunk after another", chunked, [][]prompt{{{ids(0, 6), ids(50, 4)}, {ids(10, 6), ids(50, 4), ids(70, 1)}}}, ids(90, 1), 10 + 11},
		{"the last chunk is private", chunked, [][]prompt{same(prompt{ids(0, 6), ids(50, 4)}, 2), same(prompt{ids(0, 6), ids(50, 4)}, 2)}, ids(90, 1), 6 + 4*4},
	} {
		t.Run(c.name, func(t *testing.T) {
			var answers [][]int32
			for _, batch := range c.batches {
				for range batch {
					answers = append(answers, c.answer)
				}
			}
			require.Equal(t, c.want, expected(c.sharing, block, c.batches, answers))
		})
	}
}

func TestWorkloads(t *testing.T) {
	s := settings{Prefixes: []int{512, 4096, 8192}, Sequences: []int{8}, Output: 32, MaxTokens: 20000}
	all, notes := workloads(&s, 4096)
	var names []string
	for _, w := range all {
		names = append(names, w.name)
		require.LessOrEqual(t, w.inputs, s.MaxTokens, w.name)
	}
	require.Equal(t, []string{"prefix 512 x 8", "warm prefix 512", "rag", "chat", "nothing shared x 1", "nothing shared x 16"}, names)
	require.Equal(t, []string{
		"a prefix of 4096 tokens is scaled to 4000, for the model's context of 4096",
		"a prefix of 8192 tokens is scaled to 4000, for the model's context of 4096",
		"prefix 4000 x 8 is left out: 32512 prompt tokens, more than --max-tokens 20000",
		"warm prefix 4000 is left out: 32128 prompt tokens, more than --max-tokens 20000",
		"agents is left out: 22080 prompt tokens, more than --max-tokens 20000",
	}, notes)
}
