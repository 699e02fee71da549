// Package disk keeps cache blocks in files, so that they outlive the process: a [kvcache.Tier] for [kvcache.Reuse].
//
// Each block is a file, named by its key, which is a hash of the model's identity and of all tokens up to the block's last; the
// ids of the block's own tokens stand in the file and are compared when it is read. It is written under another name first, so
// that a file is whole or not there; a checksum tells what happened to it later. Files of other models, or of none, are left
// alone.
package disk

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quire-llm/quire/kvcache"
)

// defaultBytes bounds a directory whose Tier names no bound.
const defaultBytes = 16 << 30

// Tier is a directory of blocks, as a plain value.
type Tier struct {
	// Dir is made if it is not there.
	Dir string
	// Bytes is the most that this model's files take. 0: 16 GiB. The least recently used go first.
	Bytes int64
}

// Open reads which blocks the directory holds for a model. What is wrong with single files is a warning, and so is a directory
// that cannot be written to; see [Store.Warn].
func (t Tier) Open(g kvcache.Geometry) (kvcache.Store, error) {
	switch {
	case t.Dir == "":
		return nil, errors.New("disk: no directory is named")
	case t.Bytes < 0:
		return nil, fmt.Errorf("disk: a bound of %d bytes on %q, want 0 or more", t.Bytes, t.Dir)
	}
	s := &Store{
		dir: t.Dir, limit: t.Bytes, identity: identity(g), blockBytes: g.BlockTokens * g.BytesPerToken, blockTokens: g.BlockTokens,
		files: make(map[kvcache.Key]*list.Element),
	}
	if s.limit == 0 {
		s.limit = defaultBytes
	}
	if s.limit < s.fileBytes() {
		return nil, fmt.Errorf("disk: a bound of %d bytes on %q holds no block of %d", t.Bytes, t.Dir, s.fileBytes())
	}
	made := os.MkdirAll(t.Dir, 0o755)
	entries, err := os.ReadDir(t.Dir)
	if err != nil {
		return nil, fmt.Errorf("disk: opening %q: %w", t.Dir, errors.Join(made, err))
	}
	s.scan(entries)
	s.makeRoom(0)
	return s, nil
}

// identity names what the bytes of a block depend on besides its tokens.
func identity(g kvcache.Geometry) [32]byte {
	b := append([]byte("quire blocks 1"), g.Identity[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.BlockTokens))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.BytesPerToken))
	return sha256.Sum256(b)
}

// Store is an open directory. Its methods may be called from any goroutine.
type Store struct {
	dir         string
	identity    [32]byte
	blockBytes  int
	blockTokens int
	limit       int64

	mu       sync.Mutex
	files    map[kvcache.Key]*list.Element // guarded by mu: of order
	order    list.List                     // guarded by mu: of kvcache.Key, least recently used first
	failing  bool                          // guarded by mu: the last Save failed
	log      func(string)                  // guarded by mu
	warnings []string                      // guarded by mu: until there is a log
}

// Warn gives out the warnings since Open, and those to come.
func (s *Store) Warn(log func(line string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
	for _, line := range s.warnings {
		log(line)
	}
	s.warnings = nil
}

// warn is called with mu held.
func (s *Store) warn(format string, args ...any) {
	line := "disk: " + fmt.Sprintf(format, args...)
	if s.log != nil {
		s.log(line)
	} else {
		s.warnings = append(s.warnings, line)
	}
}

// Blocks is the number of blocks held.
func (s *Store) Blocks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order.Len()
}

// Has says whether a block's file is there.
func (s *Store) Has(k kvcache.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[k] != nil
}

// Load reads a block. A file that is not what it should be, or holds other tokens, is forgotten.
func (s *Store) Load(k kvcache.Key, tokens []int32, dst []byte) error {
	path := s.path(k)
	if len(tokens) > s.blockTokens {
		return fmt.Errorf("disk: a block of %d tokens, of at most %d", len(tokens), s.blockTokens)
	}
	err := readBlock(path, s.identity, k, tokens, s.blockTokens, dst)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.files[k]
	switch {
	case err != nil && at != nil:
		s.order.Remove(at)
		delete(s.files, k)
		s.warn("%q is ignored: %v", path, err)
	case at != nil:
		s.order.MoveToBack(at)
		now := time.Now()
		_ = os.Chtimes(path, now, now) // the order survives a restart; if not, it is only an order
	}
	return err
}

// Save writes a block. A directory that is full or read-only is one warning; the blocks are lost, and that is all.
func (s *Store) Save(k kvcache.Key, tokens []int32, src []byte) error {
	if len(tokens) > s.blockTokens {
		return fmt.Errorf("disk: a block of %d tokens, of at most %d", len(tokens), s.blockTokens)
	}
	if s.Has(k) {
		return nil
	}
	s.mu.Lock()
	s.makeRoom(s.fileBytes())
	s.mu.Unlock()
	err := writeBlock(s.path(k), s.identity, k, tokens, s.blockTokens, src)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if !s.failing {
			s.warn("blocks cannot be kept in %q: %v", s.dir, err)
		}
		s.failing = true
		return fmt.Errorf("disk: keeping a block: %w", err)
	}
	s.failing = false
	if s.files[k] == nil {
		s.files[k] = s.order.PushBack(k)
	}
	return nil
}

// Close ends it. Everything is on disk already.
func (s *Store) Close() error { return nil }

func (s *Store) path(k kvcache.Key) string {
	return filepath.Join(s.dir, fmt.Sprintf("%x%s", k[:], suffix))
}

func (s *Store) fileBytes() int64 { return headerBytes + 4*int64(s.blockTokens) + int64(s.blockBytes) }

// makeRoom deletes files until more bytes fit within the limit. It is called with mu held.
func (s *Store) makeRoom(more int64) {
	for s.order.Len() > 0 && int64(s.order.Len())*s.fileBytes()+more > s.limit {
		oldest := s.order.Front()
		k := oldest.Value.(kvcache.Key)
		s.order.Remove(oldest)
		delete(s.files, k)
		if err := os.Remove(s.path(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.warn("a block that is too much cannot be deleted: %v", err)
			return
		}
	}
}

// scan finds the files of this model, oldest first.
func (s *Store) scan(entries []os.DirEntry) {
	type found struct {
		key  kvcache.Key
		time time.Time
	}
	var all []found
	foreign, damaged := 0, 0
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		info, err := entry.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
			continue
		case strings.HasSuffix(entry.Name(), unfinished):
			if time.Since(info.ModTime()) > time.Hour {
				_ = os.Remove(path) // of a process that ended in the middle
			}
			continue
		case !strings.HasSuffix(entry.Name(), suffix):
			continue
		}
		h, err := readHeader(path)
		switch {
		case err == nil && h.identity != s.identity, errors.Is(err, errVersion):
			foreign++
		case err != nil || s.path(h.key) != path || info.Size() != s.fileBytes():
			damaged++
		default:
			all = append(all, found{h.key, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.time.Compare(b.time) })
	for _, f := range all {
		s.files[f.key] = s.order.PushBack(f.key)
	}
	if foreign > 0 {
		s.warn("%d files in %q are of another model or another setup and are left alone", foreign, s.dir)
	}
	if damaged > 0 {
		s.warn("%d files in %q are damaged and are ignored", damaged, s.dir)
	}
}
