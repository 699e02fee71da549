package kvcachetest

import "slices"

// scenarios are the situations that go wrong in caches, each played out for every block size. Random operations reach most
// of them sooner or later; these reach them at once, and their names say what broke.
var scenarios = []struct {
	name string
	run  func(*world)
}{
	{"prompts about whole blocks", wholeBlocks},
	{"prompt held already", fullHit},
	{"equal prompts at once", equalPrompts},
	{"producer removed", producerRemoved},
	{"same run after another", sameRunAfterAnother},
	{"tenants", tenants},
	{"all computed where asked", allComputed},
	{"chunks in another order", chunksReordered},
	{"no space", noSpace},
	{"too long", tooLong},
	{"preempted", preempted},
	{"calls refused", func(w *world) { w.refusals(); w.admit(w.run(0, 20)); w.refusals(); w.finish() }},
	{"shrink and grow", shrinkAndGrow},
	{"transfers fail", transfersFail},
	{"content given up and loaded again", loadedAgain},
	{"check finds damage", checkFindsDamage},
}

// run is a prompt of n tokens out of one long run that no other number has.
func (w *world) run(number, n int) kvPrompt {
	return kvPrompt{Tokens: runTokens(number, n)}
}

func runTokens(number, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(1000*number + i)
	}
	return tokens
}

// mustAdmit takes in a prompt that has to fit.
func (w *world) mustAdmit(p kvPrompt) *sequence {
	s := w.admit(p)
	if s == nil {
		w.failf("a prompt of %d tokens finds no room in %d available blocks", len(p.Tokens), w.manager.Available())
	}
	return s
}

// Prompts of k·B-1, k·B and k·B+1 tokens, computed in portions of several sizes and then extended over a boundary; each
// then again, while the first one runs and after it.
func wholeBlocks(w *world) {
	b := w.blockTokens
	for _, portion := range []int{0, 1, b - 1, b, b + 1} {
		for n := 1; n <= 3*b+1; n++ {
			if m := n % b; m > 1 && m < b-1 || portion == 1 && n > b+1 {
				continue
			}
			first := w.mustAdmit(w.run(n, n))
			for !first.finished() {
				if w.runStep(stepOptions{budget: portion}) == 0 {
					w.drain()
				}
			}
			second := w.mustAdmit(first.prompt)
			w.drain()
			for range 3 {
				w.extend(first, 1)
				w.extend(second, 2)
				w.drain()
			}
			w.remove(first)
			w.mustAdmit(second.prompt)
			w.finish()
		}
	}
}

// A prompt that was computed before, by a sequence that is gone: at least its last token is computed again.
func fullHit(w *world) {
	for _, n := range []int{1, w.blockTokens, 2 * w.blockTokens, 4 * w.blockTokens} {
		p := w.run(n, n)
		for range 4 {
			s := w.mustAdmit(p)
			w.drain()
			w.extend(s, w.blockTokens)
			w.finish()
		}
	}
}

// Two to nine sequences with one prompt, all in the same step, oldest first and youngest first.
func equalPrompts(w *world) {
	for n := 2; n <= 9; n++ {
		for _, reversed := range []bool{false, true} {
			p := w.run(n, 2*w.blockTokens+w.blockTokens/2)
			for range n {
				w.mustAdmit(p)
			}
			order := slices.Clone(w.sequences)
			if reversed {
				slices.Reverse(order)
			}
			w.runStep(stepOptions{budget: w.blockTokens + 3, order: order})
			w.runStep(stepOptions{order: order})
			w.finish()
			w.forget()
		}
	}
}

// forget displaces whatever the cache has kept.
func (w *world) forget() {
	for held := 0; held < w.pool.Blocks(); held += w.maxTokens / w.blockTokens {
		tokens := make([]int32, w.maxTokens)
		for i := range tokens {
			tokens[i] = w.fresh()
		}
		w.admit(kvPrompt{Tokens: tokens})
	}
	w.drain()
	for len(w.sequences) > 0 {
		w.remove(w.sequences[0])
	}
}

// A sequence that computes what one to eight others wait for goes: before it began, with a part done, with a part given
// but not yet written, and with everything given. The others still get everything, from one of them.
func producerRemoved(w *world) {
	for waiters := 1; waiters <= 8; waiters++ {
		for moment := range 5 {
			w.note("%d waiters, moment %d", waiters, moment)
			p := w.run(10*waiters+moment, 3*w.blockTokens)
			producer := w.mustAdmit(p)
			for i := range waiters {
				q := p
				q.Tokens = append(slices.Clone(p.Tokens), w.fresh())
				q.Tokens = q.Tokens[:len(p.Tokens)+i%2]
				w.mustAdmit(q)
			}
			switch moment {
			case 0: // before it began
			case 1: // with a part done
				w.runStep(stepOptions{budget: w.blockTokens + 5})
			case 2: // with a part given
				w.runStep(stepOptions{budget: w.blockTokens + 5, remove: []*sequence{producer}})
			case 3: // with everything given, and the others' rows as well
				w.runStep(stepOptions{remove: []*sequence{producer}})
			case 4: // and the one after it, too
				w.runStep(stepOptions{budget: w.blockTokens - 1, remove: slices.Clone(w.sequences[:2])})
			}
			if slices.Contains(w.sequences, producer) {
				w.remove(producer)
			}
			w.finish()
			w.forget()
		}
	}
}

// Blocks with the same tokens after different ones, at the same place and at others.
func sameRunAfterAnother(w *world) {
	b := w.blockTokens
	one, two, three := w.run(1, b).Tokens, w.run(2, b).Tokens, w.run(3, b).Tokens
	for _, runs := range [][][]int32{{one, two, three}, {two, two, three}, {three, one, two}, {one, one, three}, {one, two, three}} {
		w.mustAdmit(kvPrompt{Tokens: slices.Concat(append(runs, []int32{w.fresh()})...)})
		w.runStep(stepOptions{})
	}
	w.finish()
}

// Tenants with the same prompts, together and one after the other.
func tenants(w *world) {
	for range 2 {
		for _, salt := range []string{"", "a", "b", "ab"} {
			p := w.run(1, 2*w.blockTokens+1)
			p.Salt = salt
			w.mustAdmit(p)
		}
		w.finish()
	}
}

// Prompts of which every token is to be computed, while they are held and while another one computes them.
func allComputed(w *world) {
	p := w.run(1, 3*w.blockTokens)
	all := p
	all.ComputeAll = true
	w.mustAdmit(p)
	w.mustAdmit(all)
	w.drain()
	w.mustAdmit(all)
	w.mustAdmit(p)
	w.runStep(stepOptions{})
	w.finish()
	w.mustAdmit(all)
	w.finish()
}

// The same chunks, of lengths about a block and of one token, in several orders, and one of them twice.
func chunksReordered(w *world) {
	b := w.blockTokens
	chunks := [][]int32{w.run(1, b).Tokens, w.run(2, b+1).Tokens, w.run(3, 1).Tokens, w.run(4, 2*b-1).Tokens}
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 1, 0}, {0, 1, 2, 3}, {2, 0}} {
		var p kvPrompt
		for _, c := range order {
			p.Tokens = append(p.Tokens, chunks[c]...)
			p.Chunks = append(p.Chunks, len(p.Tokens))
		}
		w.mustAdmit(p) // nothing after the last chunk
		p.Tokens = append(slices.Clone(p.Tokens), w.fresh(), w.fresh())
		s := w.mustAdmit(p)
		w.runStep(stepOptions{budget: b + 2})
		w.drain()
		w.extend(s, b)
		w.drain()
		if len(w.sequences) > 4 {
			w.finish()
		}
	}
	w.finish()
}

// A pool filled to the last block, by prompts and by extensions, and freed again.
func noSpace(w *world) {
	full := func() bool { return w.manager.Available() == 0 }
	for round := range 4 {
		for i := 0; ; i++ {
			p := w.run(100*round+i, 3*w.blockTokens)
			if round%2 == 1 {
				p = w.run(0, (1+i)*w.blockTokens) // with something in common
			}
			if len(p.Tokens) > w.maxTokens || w.admit(p) == nil {
				break
			}
			w.runStep(stepOptions{budget: w.blockTokens})
		}
		w.drain()
		for tries := 0; !full() && tries < w.pool.Blocks(); tries++ {
			w.extend(w.sequences[tries%len(w.sequences)], w.blockTokens)
		}
		for _, s := range w.sequences {
			w.extend(s, 2*w.blockTokens)
		}
		w.refusals()
		w.admit(w.run(99, 1))
		w.remove(w.sequences[0])
		w.admit(w.run(99, w.blockTokens))
		w.finish()
	}
}

// What can never fit is told apart from what does not fit now.
func tooLong(w *world) {
	w.mustAdmit(w.run(1, w.maxTokens))
	w.admit(w.run(2, w.maxTokens+1))
	w.drain()
	w.extend(w.sequences[0], 1)
	w.finish()
	w.resize(4)
	w.transfer(true)
	if got := w.resize(4); got != 4 {
		w.failf("Resize to 4 blocks of an empty pool: got %d", got)
	}
	w.admit(w.run(3, 4*w.blockTokens+1))
	s := w.mustAdmit(w.run(4, 4*w.blockTokens))
	w.admit(w.run(5, 1))
	w.drain()
	w.extend(s, 1)
	w.finish()
}

// Sequences that lose their blocks in their prompts and later, and come back.
func preempted(w *world) {
	for i := range 4 {
		w.mustAdmit(w.run(i/2, 2*w.blockTokens+3))
	}
	w.runStep(stepOptions{budget: 3 * w.blockTokens})
	for round := range 6 {
		for i := range 4 {
			if s := w.sequences[i%len(w.sequences)]; s.finished() {
				w.extend(s, 1+round*w.blockTokens/4)
			}
		}
		w.preempt(w.sequences[0])
		w.runStep(stepOptions{budget: w.blockTokens})
	}
	w.finish()
}

// A pool that shrinks under its sequences, which may be moved, and grows again.
func shrinkAndGrow(w *world) {
	for _, faulty := range []bool{false, true} {
		w.faulty = faulty
		for i := range 6 {
			w.mustAdmit(w.run(i/2, 3*w.blockTokens+2*i)) // two and two have a beginning in common
			w.runStep(stepOptions{})
		}
		w.drain()
		for _, i := range []int{0, 1, 1} { // the lowest blocks become free
			w.remove(w.sequences[i])
		}
		for _, blocks := range []int{20, 12, 8, 30, 1, 40, 2} {
			w.resize(blocks)
			for _, s := range w.sequences {
				w.extend(s, 1)
			}
			w.runStep(stepOptions{})
			w.preempt(w.sequences[0])
			w.resize(blocks)
			w.runStep(stepOptions{budget: w.blockTokens})
		}
		w.drain()
		w.finish()
		w.resize(w.blocks)
	}
}

// Every transfer fails.
func transfersFail(w *world) {
	w.failing = true
	loadedAgain(w)
}

// Prompts come back after the pool has given up their blocks; a strategy with another tier loads them, and may fail.
func loadedAgain(w *world) {
	w.resize(14)
	for round := range 3 {
		for i := range 5 {
			p := w.run(i%4, 4*w.blockTokens+i%2)
			w.mustAdmit(p)
			if round > 0 { // another one waits for the same load
				w.mustAdmit(kvPrompt{Tokens: append(slices.Clone(p.Tokens), w.fresh())})
			}
			w.runStep(stepOptions{budget: w.blockTokens})
			w.drain()
			w.failing = w.failing && round == 0 // what is stored later is not lost
			if i%2 == 0 {
				w.remove(w.sequences[0])
			}
			w.finish()
		}
	}
}

// Check is called with damage that the kit does to the pool behind the manager's back.
func checkFindsDamage(w *world) {
	w.faulty = false
	w.mustAdmit(w.run(1, 3*w.blockTokens))
	w.runStep(stepOptions{budget: w.blockTokens})
	w.settleTransfers()
	used := w.pool.UsedAbove(nil, 0)
	damaged := func(what string) {
		if w.manager.Check() == nil {
			w.failf("Check finds nothing wrong with %s", what)
		}
	}
	for _, b := range used {
		w.pool.Ref(b)
		damaged("a reference that nobody holds")
		w.pool.Unref(b)
	}
	extra, err := w.pool.Alloc(nil, 1)
	if err != nil {
		w.failf("%v", err)
	}
	damaged("a block that nobody holds")
	w.pool.Unref(extra[0])
	if err := w.manager.Check(); err != nil {
		w.failf("Check, with the damage undone: %v", err)
	}
	w.pool.Unref(used[len(used)-1]) // the last act in this world: it cannot be undone
	damaged("a reference that is missing")
}
