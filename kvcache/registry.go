package kvcache

import (
	"errors"
	"fmt"
	"slices"
)

// Errors of a [Registry] that callers branch on.
var (
	ErrNoChunk      = errors.New("kvcache: no such chunk")
	ErrChunkInUse   = errors.New("kvcache: chunk is in use")
	ErrRegistryFull = errors.New("kvcache: registry is full")
)

// Registry is an optional ability of a Manager: chunks have names, and may be held on to. A registered chunk is computed by the
// first request that has it; Pin keeps it from then on. Calls come from the manager's goroutine.
type Registry interface {
	// Register names a chunk. The same one again has the same name. Where there is no room, the chunks that were registered
	// first go, unless they are pinned or in use; ErrRegistryFull if that is not enough.
	Register(c ChunkText) (Key, error)
	// Chunks appends all chunks, in the order of their registration.
	Chunks(dst []ChunkInfo) []ChunkInfo
	// Chunk is one of them; ErrNoChunk if it is not there.
	Chunk(id Key) (ChunkInfo, error)
	// Delete forgets a chunk and what it holds of the cache. ErrChunkInUse: it is pinned, or sequences use it.
	Delete(id Key) error
	// Pin keeps a chunk, and all that comes before it, in the cache once it is there, or lets go of it again. ErrRegistryFull:
	// pinned chunks would take more than half of the cache.
	Pin(id Key, pinned bool) error
	// RegistryStats are counts of all chunks.
	RegistryStats() RegistryStats
}

// ChunkText is what a chunk is made of.
type ChunkText struct {
	Tokens []int32
	// After is the chunk that comes before it, if its keys and values depend on that: in exact mode the one before, and after a
	// head the head. Zero: none does.
	After Key
	Salt  string // of the tenant
}

// ChunkInfo is what is known of a chunk.
type ChunkInfo struct {
	ID         Key
	After      Key
	Tokens     int
	HeldTokens int // in the cache, computed
	Sequences  int // that use it now
	Pinned     bool
}

// RegistryStats are sums over the registered chunks, in tokens.
type RegistryStats struct {
	Chunks                     int
	Tokens, HeldTokens, Pinned int
	Room                       int // for all chunks
}

// registry is the registered chunks of a sharing manager.
type registry struct {
	chunks []registered
	pinned map[Key]int // pinned chunks that a block belongs to or comes before
	tokens int
	blocks int // that are held because of a pinned chunk
}

// registered is one chunk: keys are those of its blocks, after those of all chunks before it.
type registered struct {
	ChunkInfo
	salt string
	keys []Key
	own  int // of keys
}

// chunkRegistry is the manager of a strategy with chunks.
type chunkRegistry struct {
	*sharing
}

// room is how many tokens may be registered: as many as the cache holds.
func (m chunkRegistry) room() int { return m.pool.Blocks() * m.geometry.BlockTokens }

func (m chunkRegistry) at(id Key) int {
	return slices.IndexFunc(m.registry.chunks, func(c registered) bool { return c.ID == id })
}

func (m chunkRegistry) find(id Key) (*registered, error) {
	if i := m.at(id); i >= 0 {
		return &m.registry.chunks[i], nil
	}
	return nil, fmt.Errorf("%w: %x", ErrNoChunk, id[:6])
}

// Register names a chunk by the key of its last block.
func (m chunkRegistry) Register(c ChunkText) (Key, error) {
	n := len(c.Tokens)
	if n == 0 || n > m.geometry.MaxTokens {
		return Key{}, fmt.Errorf("kvcache: registering a chunk of %d tokens: want 1 to %d", n, m.geometry.MaxTokens)
	}
	r := registered{ChunkInfo: ChunkInfo{After: c.After, Tokens: n}, salt: c.Salt}
	key := m.chain.Root(c.Salt)
	if c.After != (Key{}) {
		before, err := m.find(c.After)
		if err != nil {
			return Key{}, fmt.Errorf("kvcache: registering a chunk after another: %w", err)
		}
		if before.salt != c.Salt || m.apart && before.After != (Key{}) {
			return Key{}, fmt.Errorf("kvcache: registering a chunk after another: that one is another tenant's, or not a head")
		}
		key, r.keys = before.ID, slices.Clone(before.keys)
		if gap := m.gap(before.Tokens, n); gap > 0 {
			key = m.chain.Gap(key, gap)
		}
	}
	for start := 0; start < n; start += m.geometry.BlockTokens {
		key = m.chain.Next(key, c.Tokens[start:min(start+m.geometry.BlockTokens, n)])
		r.keys = append(r.keys, key)
	}
	r.ID, r.own = key, m.blocksFor(n)
	if m.at(key) >= 0 {
		return key, nil
	}
	if err := m.makeRegistryRoom(n, c.After); err != nil {
		return Key{}, err
	}
	m.registry.chunks = append(m.registry.chunks, r)
	m.registry.tokens += n
	return key, nil
}

// makeRegistryRoom forgets the oldest chunks that may go, until n more tokens fit. after stays. Where that is not enough, all
// do.
func (m chunkRegistry) makeRegistryRoom(n int, after Key) error {
	tokens := m.registry.tokens
	var going []Key
	may := func(c registered) bool {
		follows := func(o registered) bool { return o.After == c.ID && !slices.Contains(going, o.ID) }
		return c.ID != after && !c.Pinned && m.users(&c) == 0 && !slices.Contains(going, c.ID) && !slices.ContainsFunc(m.registry.chunks, follows)
	}
	for tokens+n > m.room() {
		oldest := slices.IndexFunc(m.registry.chunks, may)
		if oldest < 0 {
			return fmt.Errorf("%w: %d tokens of chunks that are pinned or in use, and room for %d: a chunk of %d finds none",
				ErrRegistryFull, tokens, m.room(), n)
		}
		going = append(going, m.registry.chunks[oldest].ID)
		tokens -= m.registry.chunks[oldest].Tokens
	}
	for _, id := range going {
		m.delete(m.at(id))
	}
	return nil
}

// delete forgets a chunk that nobody uses, and its own blocks.
func (m chunkRegistry) delete(i int) {
	c := m.registry.chunks[i]
	for _, key := range c.keys[len(c.keys)-c.own:] {
		if b, ok := m.pool.Lookup(key); ok && m.pool.isCached(b) && !m.pinnedAfter(b) {
			m.drop(b)
		}
	}
	m.registry.tokens -= c.Tokens
	m.registry.chunks = slices.Delete(m.registry.chunks, i, i+1)
}

// pinnedAfter says whether a block is in use, or one that follows it.
func (m chunkRegistry) pinnedAfter(b BlockID) bool {
	for child := m.nodes[b].child; child != 0; child = m.nodes[child].older {
		if m.nodes[child].pins > 0 || m.pinnedAfter(child) {
			return true
		}
	}
	return m.nodes[b].pins > 0
}

// users is how many sequences hold a chunk's last block.
func (m chunkRegistry) users(c *registered) int {
	if b, ok := m.pool.Lookup(c.ID); ok {
		return int(m.nodes[b].holders)
	}
	return 0
}

// Delete forgets a chunk.
func (m chunkRegistry) Delete(id Key) error {
	c, err := m.find(id)
	if err != nil {
		return err
	}
	if users := m.users(c); c.Pinned || users > 0 {
		return fmt.Errorf("%w: %x is pinned (%v), or used by %d sequences", ErrChunkInUse, id[:6], c.Pinned, users)
	}
	m.delete(m.at(id))
	return nil
}

// Pin holds on to a chunk's blocks, or lets go of them.
func (m chunkRegistry) Pin(id Key, pinned bool) error {
	c, err := m.find(id)
	if err != nil || c.Pinned == pinned {
		return err
	}
	p := m.registry.pinned
	if !pinned {
		for _, key := range slices.Backward(c.keys) {
			if p[key]--; p[key] == 0 {
				delete(p, key)
				m.unpin(key)
			}
		}
		c.Pinned = false
		return nil
	}
	more := 0
	for _, key := range c.keys {
		more += count(p[key] == 0)
	}
	if most := m.pool.Blocks() / 2; len(p)+more > most {
		return fmt.Errorf("%w: %d blocks are pinned, %d more would be over half of %d", ErrRegistryFull, len(p), more, m.pool.Blocks())
	}
	for _, key := range c.keys {
		p[key]++
		if b, ok := m.pool.Lookup(key); ok && m.pool.isCached(b) {
			m.pin(b)
		}
	}
	c.Pinned = true
	return nil
}

// Chunk is one chunk as it stands.
func (m chunkRegistry) Chunk(id Key) (ChunkInfo, error) {
	c, err := m.find(id)
	if err != nil {
		return ChunkInfo{}, err
	}
	return m.info(c), nil
}

func (m chunkRegistry) info(c *registered) ChunkInfo {
	info := c.ChunkInfo
	info.Sequences = m.users(c)
	for _, key := range c.keys[len(c.keys)-c.own:] {
		if b, ok := m.pool.Lookup(key); ok && m.whole(b) {
			info.HeldTokens += int(m.nodes[b].whole)
		}
	}
	return info
}

// Chunks are all chunks as they stand.
func (m chunkRegistry) Chunks(dst []ChunkInfo) []ChunkInfo {
	for i := range m.registry.chunks {
		dst = append(dst, m.info(&m.registry.chunks[i]))
	}
	return dst
}

// RegistryStats are their sums.
func (m chunkRegistry) RegistryStats() RegistryStats {
	st := RegistryStats{Chunks: len(m.registry.chunks), Tokens: m.registry.tokens, Room: m.room()}
	for i := range m.registry.chunks {
		info := m.info(&m.registry.chunks[i])
		st.HeldTokens += info.HeldTokens
		st.Pinned += count(info.Pinned) * info.Tokens
	}
	return st
}

// pin holds a block that no sequence holds.
func (m *sharing) pin(b BlockID) {
	if m.keep != nil {
		m.keep.remove(m, b)
	}
	m.pool.Ref(b)
	m.nodes[b].pins = 1
	m.registry.blocks++
}

// wanted says whether a block is to be pinned when its last holder goes.
func (m *sharing) wanted(b BlockID) bool {
	key, ok := m.pool.Key(b)
	return ok && len(m.registry.pinned) > 0 && m.registry.pinned[key] > 0
}

// unpin lets go of a block that may have been pinned.
func (m *sharing) unpin(key Key) {
	b, ok := m.pool.Lookup(key)
	if !ok || m.nodes[b].pins == 0 {
		return
	}
	n := &m.nodes[b]
	n.pins = 0
	m.registry.blocks--
	if n.holders == 0 && m.keep == nil {
		m.drop(b)
	}
	m.pool.Unref(b)
	if m.keep != nil {
		m.keep.stamp(n)
		m.keep.add(m, b)
		m.keep.trim(m)
	}
}
