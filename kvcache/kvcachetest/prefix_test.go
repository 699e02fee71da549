package kvcachetest_test

import (
	"fmt"
	"slices"

	"github.com/quire-llm/quire/kvcache"
)

// prefix is a strategy for the tests of the kit: it shares full blocks of prompts by content, lets sequences wait for each
// other's spans, copies a block where a prompt is held to its last token, keeps a copy of every block in a host tier, and
// moves blocks out of a shrinking pool. Written to be plain, it has a switch for each of the bugs that the kit must catch.
type prefix struct {
	bug      bug
	weakKeys bool // keys of which many are equal, so that only comparing tells contents apart
}

func (prefix) Name() string    { return "prefix" }
func (s prefix) Sharing() bool { return s.bug == none }

func (s prefix) NewManager(p *kvcache.Pool, g kvcache.Geometry) (kvcache.Manager, error) {
	m := &prefixManager{
		prefix: s, pool: p, geometry: g, chain: kvcache.NewKeyChain(g),
		sequences: make(map[kvcache.SeqID]*prefixed), host: make(map[kvcache.Key]text),
		infos: make([]info, p.Blocks()+1),
	}
	return m, nil
}

type prefixManager struct {
	prefix
	pool          *kvcache.Pool
	geometry      kvcache.Geometry
	chain         *kvcache.KeyChain
	sequences     map[kvcache.SeqID]*prefixed
	infos         []info // [blocks+1]
	host          map[kvcache.Key]text
	queue         []kvcache.Move // not yet given to the engine
	flying        []kvcache.Move // given and not yet reported
	target        int            // capacity that was asked for
	prompt, found int64          // tokens
}

// prefixed is a sequence.
type prefixed struct {
	blocks []kvcache.BlockID
	tokens int
}

// text is all that a block's keys and values depend on: the tenant and the tokens up to and with its own.
type text struct {
	salt   string
	tokens []int32
}

func (t text) equal(o text) bool { return t.salt == o.salt && slices.Equal(t.tokens, o.tokens) }

// info is what is in a block.
//
//	|.... written ....|.... pending ....|.... owner's to write ....|
//	0                written           given             BlockTokens
type info struct {
	text           text // of blocks with a key
	written, given int
	owner          kvcache.SeqID // who writes what is missing
	filling        bool          // a transfer does
	moves          int           // transfers that are not finished
}

// found is what Admit knows of a full block of a prompt.
type found struct {
	key  kvcache.Key
	text text
	hit  kvcache.BlockID // 0: none
	load bool            // the host has it
}

// look finds what is held of each full block of a prompt, and where its last block may be copied from.
func (m *prefixManager) look(p kvcache.Prompt) (full []found, copyFrom kvcache.BlockID) {
	b, n := m.geometry.BlockTokens, len(p.Tokens)
	salt := p.Salt
	if m.bug == saltIgnored {
		salt = ""
	}
	root := m.chain.Root(salt)
	parent := root
	for end := b; end <= n; end += b {
		f := found{key: m.chain.Next(parent, p.Tokens[end-b:end]), text: text{salt, p.Tokens[:end]}}
		if m.bug == parentIgnored {
			f.key, f.text.tokens = m.chain.Next(root, p.Tokens[end-b:end]), p.Tokens[end-b:end]
		}
		parent = f.key
		if m.weakKeys {
			f.key = kvcache.Key{f.key[0] & 3}
		}
		if !p.ComputeAll || m.bug == computeAllIgnored {
			if held, ok := m.pool.Lookup(f.key); ok && (m.bug == notCompared || m.infos[held].text.equal(f.text)) {
				f.hit = held
			}
			stored, ok := m.host[f.key]
			f.load = f.hit == 0 && ok && (m.bug == notCompared || stored.equal(f.text))
		}
		if end == n && m.bug != lastTokenNotLeft { // the last token is to be computed, in a block of one's own
			if from := f.hit; from != 0 && m.infos[from].written == b && m.infos[from].moves == 0 {
				copyFrom = from
			}
			f.hit, f.load = 0, false
		}
		full = append(full, f)
	}
	return full, copyFrom
}

func (m *prefixManager) Admit(id kvcache.SeqID, p kvcache.Prompt) (kvcache.Admission, error) {
	n := len(p.Tokens)
	if _, ok := m.sequences[id]; ok || n == 0 {
		return kvcache.Admission{}, fmt.Errorf("prefix: sequence %d: admitted already, or empty", id)
	}
	if err := m.tooLong(n); err != nil {
		return kvcache.Admission{}, err
	}
	full, copyFrom := m.look(p)
	// New blocks are needed for what is not held, and a cached block that is used again is not available any more.
	need, revived := m.blocksFor(n), 0
	for _, f := range full {
		if f.hit != 0 {
			need--
			if m.pool.Refs(f.hit) == 0 {
				revived++
			}
		}
	}
	if copyFrom != 0 && need+revived+1 > m.pool.Available() {
		copyFrom = 0
	}
	if need+revived > m.pool.Available() && m.bug != failedAdmitKeepsHits {
		return kvcache.Admission{}, kvcache.ErrNoSpace
	}

	s := &prefixed{tokens: n, blocks: make([]kvcache.BlockID, 0, max(m.blocksFor(m.geometry.MaxTokens), 1))}
	for _, f := range full {
		inUse := f.hit != 0 && m.pool.Refs(f.hit) > 0
		if f.hit != 0 && m.bug != hitNotReferenced && !(m.bug == sharedNotCounted && inUse && len(full) > 1) {
			m.pool.Ref(f.hit)
		}
	}
	if copyFrom != 0 {
		m.pool.Ref(copyFrom)
	}
	fresh, err := m.pool.Alloc(nil, need)
	if err != nil {
		return kvcache.Admission{}, err
	}
	cached := 0
	for i := range m.blocksFor(n) {
		if i < len(full) && full[i].hit != 0 {
			s.blocks = append(s.blocks, full[i].hit)
			cached += m.geometry.BlockTokens
			continue
		}
		b := fresh[0]
		fresh = fresh[1:]
		s.blocks = append(s.blocks, b)
		m.infos[b] = info{owner: id}
		if i < len(full) {
			cached += m.settle(b, full[i])
		}
	}
	if copyFrom != 0 {
		last := s.blocks[len(s.blocks)-1]
		m.pool.Ref(last)
		m.infos[last].filling = true
		m.ask(kvcache.Move{Kind: kvcache.MoveCopy, From: copyFrom, To: last})
		cached += m.geometry.BlockTokens - 1
	}
	m.sequences[id] = s
	m.prompt += int64(n)
	m.found += int64(cached)
	return kvcache.Admission{Cached: cached}, nil
}

// settle makes a new block the one that others find, and asks for its content if the host has it. It returns how many
// tokens need not be computed.
func (m *prefixManager) settle(b kvcache.BlockID, f found) int {
	in := &m.infos[b]
	if m.pool.Publish(b, f.key) {
		in.text = text{f.text.salt, slices.Clone(f.text.tokens)}
	}
	if !f.load {
		return 0
	}
	m.pool.Ref(b)
	in.filling = true
	m.ask(kvcache.Move{Kind: kvcache.MoveLoad, To: b, Key: f.key})
	return m.geometry.BlockTokens
}

// ask queues a transfer whose blocks the caller has referenced for it.
func (m *prefixManager) ask(mv kvcache.Move) {
	m.queue = append(m.queue, mv)
	m.infos[mv.From].moves++
	m.infos[mv.To].moves++
}

func (m *prefixManager) blocksFor(tokens int) int {
	return (tokens + m.geometry.BlockTokens - 1) / m.geometry.BlockTokens
}

func (m *prefixManager) tooLong(tokens int) error {
	if tokens > m.geometry.MaxTokens || m.blocksFor(tokens) > m.pool.Blocks() {
		if m.bug == tooLongCalledNoSpace {
			return kvcache.ErrNoSpace
		}
		return fmt.Errorf("prefix: %d tokens: %w", tokens, kvcache.ErrTooLong)
	}
	return nil
}

func (m *prefixManager) Next(dst []kvcache.Span, id kvcache.SeqID, budget int) []kvcache.Span {
	s := m.sequences[id]
	if s == nil {
		return dst
	}
	b, own := m.geometry.BlockTokens, len(dst)
	if m.bug == budgetIgnored && budget > 0 {
		budget = s.tokens
	}
	for i := 0; i < len(s.blocks) && budget > 0; i++ {
		in := &m.infos[s.blocks[i]]
		end := min(b, s.tokens-i*b)
		if m.bug == givenTwice {
			in.given = in.written
		}
		if in.given >= end {
			continue
		}
		if in.filling || in.owner != id {
			break // others fill it; what is after it needs it
		}
		n := min(budget, end-in.given)
		start := i*b + in.given
		if last := len(dst) - 1; last >= own && dst[last].Start+dst[last].Len == start {
			dst[last].Len += n
		} else {
			dst = append(dst, kvcache.Span{Seq: id, Start: start, Len: n})
		}
		in.given += n
		if m.bug == publishedBeforeWritten {
			in.given = b
		}
		budget -= n
		if in.given < end {
			break
		}
	}
	return dst
}

func (m *prefixManager) View(dst []kvcache.Segment, span kvcache.Span) []kvcache.Segment {
	s, end := m.sequences[span.Seq], span.Start+span.Len
	return append(dst, kvcache.Segment{Blocks: s.blocks[:m.blocksFor(end)], Len: end})
}

func (m *prefixManager) Wrote(span kvcache.Span) {
	s := m.sequences[span.Seq]
	if s == nil {
		return
	}
	b, end := m.geometry.BlockTokens, span.Start+span.Len
	for i := span.Start / b; i*b < end; i++ {
		in := &m.infos[s.blocks[i]]
		in.written = min(b, end-i*b)
		if m.bug == fullTooEarly && in.written == b-1 {
			in.written, in.given = b, b
		}
		key, keyed := m.pool.Key(s.blocks[i])
		if _, stored := m.host[key]; in.written == b && keyed && !stored {
			if m.bug != storeNotHeld {
				m.pool.Ref(s.blocks[i])
			}
			m.ask(kvcache.Move{Kind: kvcache.MoveStore, From: s.blocks[i], Key: key})
		}
	}
}

func (m *prefixManager) Extend(id kvcache.SeqID, n int) error {
	s := m.sequences[id]
	if s == nil || n < 1 {
		return fmt.Errorf("prefix: extending sequence %d by %d", id, n)
	}
	if err := m.tooLong(s.tokens + n); err != nil {
		return err
	}
	old := len(s.blocks)
	need := m.blocksFor(s.tokens+n) - old
	if m.bug == noSpaceTooEarly && need > 0 && need >= m.pool.Free() {
		return kvcache.ErrNoSpace
	}
	if m.bug == failedExtendKeepsBlocks && need > m.pool.Available() {
		need = m.pool.Available()
		s.blocks, _ = m.pool.Alloc(s.blocks, need)
		return kvcache.ErrNoSpace
	}
	blocks, err := m.pool.Alloc(s.blocks, need)
	if err != nil {
		return err
	}
	for _, b := range blocks[old:] {
		m.infos[b] = info{owner: id}
	}
	s.blocks, s.tokens = blocks, s.tokens+n
	return nil
}

func (m *prefixManager) Remove(id kvcache.SeqID) {
	s := m.sequences[id]
	if s == nil {
		return
	}
	delete(m.sequences, id)
	for i := len(s.blocks) - 1; i >= 0; i-- {
		b := s.blocks[i]
		if in := &m.infos[b]; in.owner == id && in.written < m.geometry.BlockTokens && !in.filling {
			m.passOn(b)
		}
		if m.bug == leakOnRemove && i == 0 && len(s.blocks) > 3 {
			continue
		}
		m.pool.Unref(b)
		if m.bug == doubleFree && i == 0 && len(s.blocks) > 3 {
			m.pool.Unref(b)
		}
	}
}

// passOn makes another of a block's holders the one who writes what is missing, or lets nobody find it any more.
func (m *prefixManager) passOn(b kvcache.BlockID) {
	in := &m.infos[b]
	in.given = in.written
	heir, ok := kvcache.SeqID(0), false
	for id, s := range m.sequences {
		if slices.Contains(s.blocks, b) && (!ok || id < heir) {
			heir, ok = id, true
		}
	}
	switch {
	case !ok && m.bug == unwrittenKept:
	case !ok:
		m.pool.Forget(b)
	case m.bug == waiterLost:
	case m.bug == pendingTakenForWritten:
		in.owner, in.written, in.given = heir, m.geometry.BlockTokens, m.geometry.BlockTokens
	default:
		in.owner = heir
	}
}

func (m *prefixManager) Moves(dst []kvcache.Move) []kvcache.Move {
	dst = append(dst, m.queue...)
	m.flying = append(m.flying, m.queue...)
	m.queue = m.queue[:0]
	return dst
}

func (m *prefixManager) Moved(mv kvcache.Move, err error) {
	at := slices.IndexFunc(m.flying, func(f kvcache.Move) bool { return f.Kind == mv.Kind && f.From == mv.From && f.To == mv.To })
	m.flying = slices.Delete(m.flying, at, at+1)
	m.infos[mv.From].moves--
	m.infos[mv.To].moves--
	b := m.geometry.BlockTokens
	to := &m.infos[mv.To]
	switch mv.Kind {
	case kvcache.MoveStore:
		if err == nil || m.bug == failedStoreKept {
			m.host[mv.Key] = m.infos[mv.From].text
		}
		if m.bug == storeNotHeld {
			return
		}
		m.pool.Unref(mv.From)
	case kvcache.MoveLoad:
		to.filling = false
		if err == nil || m.bug == failedLoadTaken {
			to.written, to.given = b, b
		} else {
			delete(m.host, mv.Key)
			m.passOn(mv.To)
		}
		m.pool.Unref(mv.To)
	case kvcache.MoveCopy:
		to.filling = false
		if err == nil || m.bug == failedCopyTaken {
			to.written, to.given = b-1, b-1
		}
		if m.bug != copyKeepsSource {
			m.pool.Unref(mv.From)
		}
		m.pool.Unref(mv.To)
	case kvcache.MovePlace:
		m.placed(mv, err)
	}
}

// placed ends a relocation.
func (m *prefixManager) placed(mv kvcache.Move, err error) {
	if err != nil && m.bug != failedPlaceTaken {
		m.pool.Unref(mv.To)
		m.pool.Unref(mv.From)
		return
	}
	m.infos[mv.To] = m.infos[mv.From]
	for _, s := range m.sequences {
		if i := slices.Index(s.blocks, mv.From); i >= 0 {
			s.blocks[i] = mv.To
			if m.bug == staleAfterRelocation {
				break // those who share it are forgotten
			}
		}
	}
	m.pool.Replace(mv.From, mv.To)
	m.pool.Unref(mv.To)
	if m.target < m.pool.Blocks() {
		_, _ = m.pool.Resize(m.target)
	}
}

func (m *prefixManager) Resize(blocks int) (int, error) {
	got, err := m.pool.Resize(blocks)
	if err != nil {
		return got, err
	}
	m.target = blocks
	if n := got + 1 - len(m.infos); n > 0 {
		m.infos = append(m.infos, make([]info, n)...)
	}
	for _, from := range m.pool.UsedAbove(nil, blocks) {
		if m.infos[from].moves > 0 && m.bug != movedWhileLoading {
			continue
		}
		to, err := m.pool.AllocWithin(blocks)
		if err != nil {
			break
		}
		m.pool.Ref(from)
		m.infos[to] = info{filling: true}
		m.ask(kvcache.Move{Kind: kvcache.MovePlace, From: from, To: to})
	}
	return got, nil
}

func (m *prefixManager) Available() int {
	if m.bug == availableTooFew {
		return m.pool.Free()
	}
	return m.pool.Available()
}

func (m *prefixManager) Stats() kvcache.Stats {
	st := m.pool.Stats()
	st.Sequences, st.PromptTokens, st.CachedTokens = len(m.sequences), m.prompt, m.found
	st.PendingMoves = len(m.queue) + len(m.flying)
	for id, s := range m.sequences {
		for _, b := range s.blocks {
			if in := &m.infos[b]; in.given < m.geometry.BlockTokens && (in.filling || in.owner != id) {
				st.WaitingSpans++
				break
			}
		}
	}
	return st
}

func (m *prefixManager) Check() error {
	if m.bug != none {
		return nil
	}
	if err := m.pool.Check(); err != nil {
		return err
	}
	refs := make([]int, len(m.infos))
	for id, s := range m.sequences {
		if len(s.blocks) != m.blocksFor(s.tokens) {
			return fmt.Errorf("prefix: sequence %d has %d blocks for %d tokens", id, len(s.blocks), s.tokens)
		}
		for _, b := range s.blocks {
			refs[b]++
		}
	}
	for _, mv := range slices.Concat(m.queue, m.flying) {
		if mv.Kind != kvcache.MoveLoad {
			refs[mv.From]++
		}
		if mv.Kind != kvcache.MoveStore {
			refs[mv.To]++
		}
	}
	for b := kvcache.BlockID(1); int(b) <= m.pool.Blocks(); b++ {
		if got := m.pool.Refs(b); got != refs[b] {
			return fmt.Errorf("prefix: block %d has %d references, want %d", b, got, refs[b])
		}
		if in := m.infos[b]; refs[b] > 0 && in.given < in.written {
			return fmt.Errorf("prefix: block %d: wrote %d tokens, gave %d", b, in.written, in.given)
		}
	}
	return nil
}
