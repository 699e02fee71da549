package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quire-llm/quire/kvcache"
)

var geometry = kvcache.Geometry{BlockTokens: 16, BytesPerToken: 64, Identity: [32]byte{1}}

// open opens a directory and collects its warnings.
func open(t testing.TB, dir string, limit int64, g kvcache.Geometry) (*Store, *[]string) {
	t.Helper()
	opened, err := Tier{Dir: dir, Bytes: limit}.Open(g)
	require.NoError(t, err)
	s, warnings := opened.(*Store), new([]string)
	s.Warn(func(line string) { *warnings = append(*warnings, line) })
	return s, warnings
}

// ids are the tokens of all blocks here, which are not full.
var ids = []int32{7, 1 << 20, 0}

func block(fill byte) []byte { return bytes.Repeat([]byte{fill}, 1024) }

func key(n byte) kvcache.Key { return kvcache.Key{0: n, 31: n} }

// names are the directory's files.
func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestBlocksSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	s, _ := open(t, dir, 0, geometry)
	for n := range byte(5) {
		require.NoError(t, s.Save(key(n), ids, block(n)))
		require.NoError(t, s.Save(key(n), ids, block(n)), "twice is fine")
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	s, warnings := open(t, dir, 0, geometry)
	require.Equal(t, 5, s.Blocks())
	got := make([]byte, 1024)
	for n := range byte(5) {
		require.True(t, s.Has(key(n)))
		require.NoError(t, s.Load(key(n), ids, got))
		require.Equal(t, block(n), got)
	}
	require.False(t, s.Has(key(9)))
	require.Error(t, s.Load(key(9), ids, got))
	require.Empty(t, *warnings)
	require.Len(t, names(t, dir), 5, "nothing else is left")
}

// A key is a hash: what it finds is used only if the token ids are the same.
func TestOtherTokensUnderTheSameKey(t *testing.T) {
	s, warnings := open(t, t.TempDir(), 0, geometry)
	got := make([]byte, 1024)
	for _, other := range [][]int32{nil, {7, 1 << 20}, {7, 1 << 20, 1}, {7, 1 << 20, 0, 0}, make([]int32, 17)} {
		*warnings = nil
		require.NoError(t, s.Save(key(1), ids, block(1)))
		require.Error(t, s.Load(key(1), other, got))
		if len(other) <= 16 {
			require.False(t, s.Has(key(1)))
			require.Contains(t, (*warnings)[0], "other tokens under the same key")
		}
	}
	require.Error(t, s.Save(key(2), make([]int32, 17), block(1)))
	require.NoError(t, s.Load(key(1), ids, got))
	require.Equal(t, block(1), got)
}

// Files of the format's first version, which had no token ids, are left alone.
func TestOlderFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 0, geometry)
	require.NoError(t, s.Save(key(1), ids, block(1)))
	data, err := os.ReadFile(s.path(key(1)))
	require.NoError(t, err)
	data[7] = 1
	require.NoError(t, os.WriteFile(s.path(key(1)), data, 0o644))
	s, warnings := open(t, dir, 0, geometry)
	require.False(t, s.Has(key(1)))
	require.Contains(t, (*warnings)[0], "of another model or another setup and are left alone")
	require.Len(t, names(t, dir), 1)
}

func TestTheBoundHolds(t *testing.T) {
	dir := t.TempDir()
	const file = headerBytes + 4*16 + 1024
	s, _ := open(t, dir, 3*file+10, geometry)
	got := make([]byte, 1024)
	for n := range byte(3) {
		require.NoError(t, s.Save(key(n), ids, block(n)))
	}
	require.NoError(t, s.Load(key(0), ids, got))
	require.NoError(t, s.Save(key(3), ids, block(3)))
	require.Equal(t, []bool{true, false, true, true}, []bool{s.Has(key(0)), s.Has(key(1)), s.Has(key(2)), s.Has(key(3))}, "the least recently used is gone")
	require.Len(t, names(t, dir), 3)
	s, _ = open(t, dir, file, geometry)
	require.Equal(t, 1, s.Blocks(), "a smaller bound the next time")
	require.Len(t, names(t, dir), 1)
}

// What is in a directory and is no block of this model is left alone, whatever it is.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 0, geometry)
	require.NoError(t, s.Save(key(1), ids, block(1)))
	other := geometry
	other.Identity[0] = 2
	o, warnings := open(t, dir, 0, other)
	require.Contains(t, (*warnings)[0], "1 files in")
	require.Contains(t, (*warnings)[0], "are of another model")
	require.False(t, o.Has(key(1)))
	require.ErrorContains(t, o.Load(key(1), ids, make([]byte, 1024)), "of another model")
	larger := geometry
	larger.BlockTokens = 32
	o, _ = open(t, dir, 0, larger)
	require.False(t, o.Has(key(1)), "blocks of another size")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("mine"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "odd.kv"), []byte("mine"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.kv"), 0o755))
	require.NoError(t, s.Save(key(2), ids, block(2)))
	s, warnings = open(t, dir, s.fileBytes(), geometry)
	require.Equal(t, 1, s.Blocks(), "the bound is one block")
	require.Contains(t, *warnings, `disk: 1 files in "`+dir+`" are damaged and are ignored`)
	require.Len(t, names(t, dir), 4)
	require.Subset(t, names(t, dir), []string{"notes.txt", "odd.kv", "folder.kv"})
}

func TestDamagedFilesAreIgnored(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func([]byte) []byte
		found bool // by Open, which reads headers only
	}{
		{"a byte of the block", func(b []byte) []byte { b[500]++; return b }, true},
		{"the last byte", func(b []byte) []byte { b[len(b)-1]++; return b }, true},
		{"a byte of the key", func(b []byte) []byte { b[50]++; return b }, false},
		{"a byte of the identity", func(b []byte) []byte { b[8]++; return b }, false},
		{"a token id", func(b []byte) []byte { b[headerBytes]++; return b }, true},
		{"another magic", func(b []byte) []byte { b[0]++; return b }, false},
		{"cut off", func(b []byte) []byte { return b[:700] }, false},
		{"too long", func(b []byte) []byte { return append(b, 0) }, false},
		{"empty", func([]byte) []byte { return nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, during := open(t, dir, 0, geometry)
			require.NoError(t, s.Save(key(1), ids, block(1)))
			data, err := os.ReadFile(s.path(key(1)))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(s.path(key(1)), c.spoil(data), 0o644))
			later, warnings := open(t, dir, 0, geometry)
			require.Equal(t, c.found, later.Has(key(1)))
			if c.found {
				require.ErrorIs(t, later.Load(key(1), ids, make([]byte, 1024)), errDamaged)
			}
			require.Len(t, *warnings, 1)
			require.False(t, later.Has(key(1)))
			if c.name != "too long" { // which a reader who knows the length does not see
				require.Error(t, s.Load(key(1), ids, make([]byte, 1024)), "damaged while it is open")
				require.Len(t, *during, 1)
			}
			require.NoError(t, later.Save(key(1), ids, block(7)), "written again")
			got := make([]byte, 1024)
			require.NoError(t, later.Load(key(1), ids, got))
			require.Equal(t, block(7), got)
		})
	}
}

func TestADirectoryThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	s, warnings := open(t, dir, 0, geometry)
	require.NoError(t, s.Save(key(1), ids, block(1)))
	gone := dir + " gone"
	require.NoError(t, os.Rename(dir, gone)) // for root every directory can be written to; none can if it is not there
	for n := byte(2); n < 5; n++ {
		require.ErrorContains(t, s.Save(key(n), ids, block(n)), "keeping a block")
	}
	require.Len(t, *warnings, 1, "one warning, not one for each block")
	require.Contains(t, (*warnings)[0], "blocks cannot be kept in")
	require.NoError(t, os.Rename(gone, dir))
	require.NoError(t, s.Save(key(2), ids, block(2)), "and it goes on")
	require.NoError(t, s.Load(key(1), ids, make([]byte, 1024)))
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for _, c := range []struct {
		tier Tier
		want string
	}{
		{Tier{}, "no directory is named"},
		{Tier{Dir: file}, "opening"},
		{Tier{Dir: "x", Bytes: -1}, "a bound of -1 bytes"},
		{Tier{Dir: "x", Bytes: 1000}, "a bound of 1000 bytes on \"x\" holds no block of"},
	} {
		_, err := c.tier.Open(geometry)
		require.ErrorContains(t, err, c.want)
	}
}

// FuzzHeader: no header makes the reader panic, and one that is taken is one that was written.
func FuzzHeader(f *testing.F) {
	h := header{[32]byte{1}, key(1), 1024, 3, 7}
	f.Add(h.encode())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeFrom(bytes.NewReader(data)); err == nil {
			require.Equal(t, h.encode()[:92], data[:92])
		}
	})
}
