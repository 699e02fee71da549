package fair

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quire-llm/quire/bench/internal/suite"
)

// ownTokens follow a shared prefix.
const ownTokens = 64

// workloads are those that fit the model's context and the limit of tokens, and a line for each that was scaled or left out.
func workloads(s *settings, context int) (all []workload, notes []string) {
	var wanted []workload
	var prefixes []int
	for _, prefix := range s.Prefixes {
		if most := context - ownTokens - s.Output; prefix > most {
			notes = append(notes, fmt.Sprintf("a prefix of %d tokens is scaled to %d, for the model's context of %d", prefix, most, context))
			prefix = most
		}
		if prefix > 0 && !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	for _, prefix := range prefixes {
		for _, n := range s.Sequences {
			wanted = append(wanted, sharedPrefix(prefix, n))
		}
	}
	for _, prefix := range prefixes {
		wanted = append(wanted, warmPrefix(prefix))
	}
	wanted = append(wanted, rag(), chat(s), agents(), nothingShared(1), nothingShared(16))
	for _, w := range wanted {
		switch {
		case len(s.Workloads) > 0 && !slices.ContainsFunc(s.Workloads, func(part string) bool { return strings.Contains(w.name, part) }):
		case w.longest+s.Output > context:
			notes = append(notes, fmt.Sprintf("%s is left out: prompts of %d tokens and answers of %d do not fit the context of %d", w.name, w.longest, s.Output, context))
		case s.MaxTokens > 0 && w.inputs > s.MaxTokens:
			notes = append(notes, fmt.Sprintf("%s is left out: %d prompt tokens, more than --max-tokens %d", w.name, w.inputs, s.MaxTokens))
		default:
			all = append(all, w)
		}
	}
	return all, notes
}

// once remembers what is drawn with the first batch, for all batches.
func once[T any](make func(*suite.Prompts) T) func(*suite.Prompts, int) T {
	var kept T
	return func(p *suite.Prompts, batch int) T {
		if batch == 0 {
			kept = make(p)
		}
		return kept
	}
}

func sharedPrefix(prefix, n int) workload {
	return workload{
		name: fmt.Sprintf("prefix %d x %d", prefix, n), about: "one batch whose prompts begin with the same tokens",
		prefix: prefix, batches: 1, sequences: n, longest: prefix + ownTokens, inputs: n * (prefix + ownTokens), repeating: n > 1,
		draw: func(_ int, p *suite.Prompts, _ [][][]int32) []prompt {
			shared := p.IDs(prefix)
			prompts := make([]prompt, n)
			for i := range prompts {
				prompts[i] = prompt{shared, p.IDs(ownTokens)}
			}
			return prompts
		},
	}
}

// warmPrefix asks again and again after the same tokens, one prompt after the other, with nothing between them. The first one is
// cold under every strategy, so that the median time to the first token is that of a warm prefix where one is kept.
func warmPrefix(prefix int) workload {
	const own, batches = 16, 8
	shared := once(func(p *suite.Prompts) []int32 { return p.IDs(prefix) })
	return workload{
		name: fmt.Sprintf("warm prefix %d", prefix), about: fmt.Sprintf("prompts one after another, each of %d tokens after the same prefix", own),
		prefix: prefix, batches: batches, sequences: 1, longest: prefix + own, inputs: batches * (prefix + own), repeating: true,
		draw: func(b int, p *suite.Prompts, _ [][][]int32) []prompt {
			return []prompt{{shared(p, b), p.IDs(own)}}
		},
	}
}

// rag quotes two of twenty documents in each prompt, the one of rank r with a weight of 1/r.
func rag() workload {
	const system, documents, quoted, document, question, batches, n = 100, 20, 2, 200, 40, 4, 8
	const longest = system + quoted*document + question
	texts := once(func(p *suite.Prompts) [][]int32 {
		all := [][]int32{p.IDs(system)}
		for range documents {
			all = append(all, p.IDs(document))
		}
		return all
	})
	return workload{
		name: "rag", about: fmt.Sprintf("questions on %d of %d documents, by Zipf's law, after the same instructions", quoted, documents),
		batches: batches, sequences: n, longest: longest, inputs: batches * n * longest, repeating: true,
		draw: func(b int, p *suite.Prompts, _ [][][]int32) []prompt {
			all := texts(p, b)
			prompts := make([]prompt, n)
			for i := range prompts {
				first := zipf(p, documents)
				second := zipf(p, documents)
				for second == first {
					second = zipf(p, documents)
				}
				prompts[i] = prompt{all[0], all[1+first], all[1+second], p.IDs(question)}
			}
			return prompts
		},
	}
}

// zipf draws one of n places: the one at index r has a weight of 1/(r+1).
func zipf(p *suite.Prompts, n int) int {
	const scale = 1 << 20
	sum := 0
	for r := range n {
		sum += scale / (r + 1)
	}
	at := p.Length(0, sum-1)
	for r := range n {
		if at -= scale / (r + 1); at < 0 {
			return r
		}
	}
	return n - 1
}

// chat is users who go on with the answers that they got.
func chat(s *settings) workload {
	const system, message, turns, n = 120, 50, 4, 8
	shared := once(func(p *suite.Prompts) []int32 { return p.IDs(system) })
	said := make([]prompt, n) // by each user and to each, until now
	inputs := 0
	for turn := range turns {
		inputs += n * (system + message + turn*(message+s.Output))
	}
	return workload{
		name: "chat", about: "users who talk in turns, each turn a batch, after the same instructions",
		batches: turns, sequences: n, longest: system + turns*message + (turns-1)*s.Output, inputs: inputs, repeating: true, quotes: true,
		draw: func(b int, p *suite.Prompts, earlier [][][]int32) []prompt {
			instructions := shared(p, b)
			prompts := make([]prompt, n)
			for i := range prompts {
				if b == 0 {
					said[i] = prompt{instructions}
				} else {
					last := len(said[i]) - 1
					said[i][last] = slices.Concat(said[i][last], earlier[b-1][i]) // a turn is a message and its answer
				}
				said[i] = append(slices.Clone(said[i]), p.IDs(message))
				prompts[i] = slices.Clone(said[i])
			}
			return prompts
		},
	}
}

// agents share a system prompt, and those of a kind their tools too: three levels with the task.
func agents() workload {
	const system, kinds, tools, task, batches, n = 500, 4, 150, 40, 2, 16
	const longest = system + tools + task
	texts := once(func(p *suite.Prompts) [][]int32 {
		all := [][]int32{p.IDs(system)}
		for range kinds {
			all = append(all, p.IDs(tools))
		}
		return all
	})
	return workload{
		name: "agents", about: fmt.Sprintf("agents of %d kinds with the same system prompt, those of a kind with the same tools", kinds),
		batches: batches, sequences: n, longest: longest, inputs: batches * n * longest, repeating: true,
		draw: func(b int, p *suite.Prompts, _ [][][]int32) []prompt {
			all := texts(p, b)
			prompts := make([]prompt, n)
			for i := range prompts {
				prompts[i] = prompt{all[0], all[1+i%kinds], p.IDs(task)}
			}
			return prompts
		},
	}
}

func nothingShared(n int) workload {
	const length = 300
	return workload{
		name: fmt.Sprintf("nothing shared x %d", n), about: "one batch of prompts that have nothing in common",
		batches: 1, sequences: n, longest: length, inputs: n * length,
		draw: func(_ int, p *suite.Prompts, _ [][][]int32) []prompt {
			prompts := make([]prompt, n)
			for i := range prompts {
				prompts[i] = prompt{p.IDs(length)}
			}
			return prompts
		},
	}
}
