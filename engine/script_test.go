package engine

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the outcomes in testdata/scheduler")

// TestScripts runs the scripts in testdata/scheduler against a scheduler over the fake model. A line is a command; what
// it came to stands below it, after "> ". Commands:
//
//	pool blocks=N sequences=N step=N [overlap]   the first line; blocks of 16 tokens; steps overlap
//	request NAME prompt=N max=N [probs] [penalty]    queue a request
//	halt NAME                              cancel it
//	stop NAME                              end it for a stop string
//	break NAME                             its next logits are not finite
//	step [N]                               plan, run and commit a step, or N; what is listed is the last one's. Where steps
//	                                       overlap, the rows are those submitted, the tokens those of the step before
//	drain                                  step until nothing is left; says how many steps that took
//
// Rows are listed as name[start:end]; a bare name that follows "ended" says how its request ended.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scheduler/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			s := &script{t: t, names: map[*answer]string{}, sequences: map[string]*sequence{}}
			var got strings.Builder
			for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
				if strings.HasPrefix(line, ">") {
					continue
				}
				fmt.Fprintln(&got, line)
				if line != "" && !strings.HasPrefix(line, "#") {
					for _, outcome := range s.do(strings.Fields(line)) {
						fmt.Fprintln(&got, "> "+outcome)
					}
				}
			}
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
			}
			require.Equal(t, string(text), got.String())
		})
	}
}

type script struct {
	t         *testing.T
	scheduler *scheduler
	runner    *fakeRunner
	broken    string
	names     map[*answer]string
	sequences map[string]*sequence
	tickets   uint64
}

func (s *script) do(words []string) []string {
	values := map[string]int{}
	for _, w := range words[1:] {
		if name, value, ok := strings.Cut(w, "="); ok {
			var n int
			_, err := fmt.Sscan(value, &n)
			require.NoError(s.t, err)
			values[name] = n
		}
	}
	switch words[0] {
	case "pool":
		o := fakeOptions{blocks: values["blocks"], blockTokens: 16, sequences: values["sequences"], stepTokens: values["step"], context: 1 << 20}
		o.overlap = slices.Contains(words, "overlap")
		s.scheduler, s.runner = o.scheduler(s.t)
		s.runner.broken = func(past []int32) bool {
			seq := s.sequences[s.broken]
			return seq != nil && slices.Equal(past, seq.tokens[:seq.known])
		}
		return nil
	case "request":
		s.request(words[1], values["prompt"], values["max"], slices.Contains(words, "probs"), slices.Contains(words, "penalty"))
		return nil
	case "halt":
		s.scheduler.halt(s.sequences[words[1]], errors.New("cancelled"), time.Now())
		return s.outcome()
	case "stop":
		s.scheduler.halt(s.sequences[words[1]], nil, time.Now())
		return s.outcome()
	case "break":
		s.broken = words[1]
		return nil
	case "step":
		n := 1
		if len(words) > 1 {
			_, err := fmt.Sscan(words[1], &n)
			require.NoError(s.t, err)
		}
		var out []string
		for range n {
			require.NoError(s.t, s.scheduler.doStep(time.Now()))
			require.NoError(s.t, s.scheduler.check())
			out = s.outcome()
		}
		return out
	case "drain":
		steps := 0
		for ; !s.scheduler.idle() || len(s.scheduler.flying) > 0; steps++ {
			require.NoError(s.t, s.scheduler.doStep(time.Now()))
			require.NoError(s.t, s.scheduler.check())
		}
		return []string{fmt.Sprintf("%d steps, %d preemptions", steps, s.scheduler.count.preemptions)}
	}
	s.t.Fatalf("no command %q", words[0])
	return nil
}

func (s *script) request(name string, prompt, most int, probs, penalty bool) {
	in := &intake{text: fakeCodec{}, vocab: fakeVocab, context: 1 << 20}
	tokens := make([]int32, prompt)
	for i := range tokens {
		tokens[i] = int32(i+len(s.names)*7) % fakeVocab
	}
	r := Request{Tokens: tokens, MaxTokens: most, IgnoreEOS: true, PromptLogprobs: probs}
	if penalty {
		r.Sampling.PresencePenalty = 1
	}
	seq, err := in.sequence(&r)
	require.NoError(s.t, err)
	s.tickets++
	seq.ticket = s.tickets
	s.names[seq.answer], s.sequences[name] = name, seq
	s.scheduler.enqueue(seq)
}

// outcome is where the scheduler stands, and what has happened since it was last asked.
func (s *script) outcome() []string {
	sch := s.scheduler
	var rows, tokens, ended []string
	for _, p := range sch.step.spans {
		rows = append(rows, fmt.Sprintf("%s[%d:%d]", s.names[p.seq.answer], p.span.Start, p.span.Start+p.span.Len))
	}
	for _, ev := range sch.events {
		name := s.names[ev.to]
		if ev.token >= 0 {
			tokens = append(tokens, name)
		}
		switch {
		case ev.end == nil:
		case ev.end.err != nil:
			ended = append(ended, fmt.Sprintf("%s: %v", name, ev.end.err))
		default:
			ended = append(ended, fmt.Sprintf("%s: %s", name, ev.end.finish))
		}
	}
	if len(sch.step.spans) > 0 {
		rows = append(rows, fmt.Sprintf("= %d+%d", sch.step.decodeRows, sch.step.prefillRows))
	}
	sch.events, sch.step.spans = sch.events[:0], nil
	list := func(sequences []*sequence) (names []string) {
		for _, q := range sequences {
			names = append(names, s.names[q.answer])
		}
		return names
	}
	var out []string
	for _, part := range []struct {
		name  string
		words []string
	}{{"rows", rows}, {"tokens", tokens}, {"running", list(sch.running)}, {"waiting", list(sch.waiting)}} {
		if len(part.words) > 0 {
			out = append(out, part.name+" "+strings.Join(part.words, " "))
		}
	}
	out = append(out, fmt.Sprintf("blocks %d", sch.pool.CountUsed()))
	out = []string{strings.Join(out, "; ")}
	for _, e := range ended {
		out = append(out, "ended "+e)
	}
	return out
}
