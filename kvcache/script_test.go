package kvcache_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata say now into them")

// TestStandardScripts plays the scripts in testdata/standard. A script is a list of steps, separated by empty lines:
//
//	admit 1 10          what to do: new, admit, next, wrote, extend, remove, resize
//	----
//	taken in            what came of it, and the books after it
//
// After a change that is meant, go test ./kvcache -run Scripts -rewrite brings them up to date; read the difference.
func TestStandardScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/standard/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			s := &script{t: t}
			var out []string
			for _, step := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
				command, _, _ := strings.Cut(step, "\n----")
				out = append(out, command+"\n----\n"+s.do(command))
			}
			got := strings.Join(out, "\n\n") + "\n"
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(data), got)
		})
	}
}

// script is a standard manager and the spans that wait for wrote.
type script struct {
	t       *testing.T
	manager kvcache.Manager
	pending []kvcache.Span
}

// do obeys one command, after any lines of comment, and says what came of it.
func (s *script) do(command string) string {
	lines := strings.Split(command, "\n")
	words := strings.Fields(lines[len(lines)-1])
	var args [3]int
	for i, word := range words[1:] {
		n, err := strconv.Atoi(word)
		require.NoError(s.t, err, "in %q", command)
		args[i] = n
	}
	result := s.run(words[0], args)
	require.NoError(s.t, s.manager.Check(), "after %q", command)
	return result + "\n" + s.books()
}

func (s *script) run(name string, args [3]int) string {
	id := kvcache.SeqID(args[0])
	said := func(err error) string {
		if err != nil {
			return "error: " + err.Error()
		}
		return "done"
	}
	switch name {
	case "new": // blocks, tokens in a block, tokens in a sequence
		pool, err := kvcache.NewPool(args[0], args[1])
		require.NoError(s.t, err)
		s.manager, err = kvcache.Standard{}.NewManager(pool, kvcache.Geometry{BlockTokens: args[1], MaxTokens: args[2]})
		return said(err)
	case "admit": // sequence, tokens
		a, err := s.manager.Admit(id, kvcache.Prompt{Tokens: make([]int32, args[1])})
		if err != nil {
			return said(err)
		}
		return fmt.Sprintf("taken in, %d tokens cached", a.Cached)
	case "next": // sequence, budget
		var b strings.Builder
		spans := s.manager.Next(nil, id, args[1])
		for _, span := range spans {
			fmt.Fprintf(&b, "tokens %d to %d", span.Start, span.Start+span.Len-1)
			for _, seg := range s.manager.View(nil, span) {
				fmt.Fprintf(&b, ", seeing %d tokens from position %d in blocks %v", seg.Len, seg.Pos, seg.Blocks)
			}
		}
		s.pending = append(s.pending, spans...)
		if len(spans) == 0 {
			return "nothing"
		}
		return b.String()
	case "wrote": // everything that next gave
		for _, span := range s.pending {
			s.manager.Wrote(span)
		}
		s.pending = s.pending[:0]
		return "done"
	case "extend": // sequence, tokens
		return said(s.manager.Extend(id, args[1]))
	case "remove": // sequence
		s.manager.Remove(id)
		return "done"
	case "resize": // blocks
		n, err := s.manager.Resize(args[0])
		if err != nil {
			return said(err)
		}
		return fmt.Sprintf("%d blocks", n)
	}
	s.t.Fatalf("no command %q", name)
	return ""
}

// books is a line of counts.
func (s *script) books() string {
	st := s.manager.Stats()
	return fmt.Sprintf("sequences %d, blocks used %d of %d, available %d, peak %d",
		st.Sequences, st.BlocksUsed, st.Blocks, s.manager.Available(), st.BlocksPeak)
}
