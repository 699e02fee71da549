package engine

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStopMatcher(t *testing.T) {
	for _, c := range []struct {
		name   string
		stops  []string
		pieces []string
		want   []string // what each piece lets out; one more for flush unless a stop string came
		found  bool
	}{
		{"no stop strings", nil, []string{"a", "b"}, []string{"a", "b", ""}, false},
		{"in one piece", []string{"##"}, []string{"ab##cd"}, []string{"ab"}, true},
		{"at the beginning", []string{"##"}, []string{"##cd"}, []string{""}, true},
		{"over two pieces", []string{"##"}, []string{"ab#", "#c"}, []string{"ab", ""}, true},
		{"over four pieces", []string{"stop"}, []string{"as", "t", "o", "p!"}, []string{"a", "", "", ""}, true},
		{"a beginning that was none", []string{"stop"}, []string{"st", "ay"}, []string{"", "stay", ""}, false},
		{"a beginning within a beginning", []string{"aab"}, []string{"a", "a", "a", "b"}, []string{"", "", "a", ""}, true},
		{"held back at the end", []string{"stop"}, []string{"as", "to"}, []string{"a", "", "sto"}, false},
		{"the one that ends first", []string{"xabcd", "bc"}, []string{"xabcd"}, []string{"xa"}, true},
		{"the same cut finer", []string{"xabcd", "bc"}, []string{"x", "a", "b", "c", "d"}, []string{"", "", "", "xa"}, true},
		{"the longer of two that end together", []string{"b", "ab"}, []string{"xab"}, []string{"x"}, true},
		{"runes of several bytes", []string{"ö"}, []string{"aä", "öb"}, []string{"aä", ""}, true},
		{"a rune that begins like the stop", []string{"öx"}, []string{"aö", "y"}, []string{"a", "öy", ""}, false},
		{"newlines", []string{"\n\n"}, []string{"a\n", "b\n\nc"}, []string{"a", "\nb"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := stopMatcher{stops: c.stops}
			var got []string
			found := false
			for _, p := range c.pieces {
				var text string
				text, found = m.push(p)
				got = append(got, text)
				if found {
					break
				}
			}
			if !found {
				got = append(got, m.flush())
			}
			require.Equal(t, c.found, found)
			require.Equal(t, c.want, got)
		})
	}
}

// FuzzStopMatcher cuts a text at every place and compares with a search in the whole.
func FuzzStopMatcher(f *testing.F) {
	f.Add("hello ## world", "##", "lo", uint8(1))
	f.Add("aaab", "aab", "b", uint8(2))
	f.Add("xabcd", "xabcd", "bc", uint8(3))
	f.Fuzz(func(t *testing.T, text, first, second string, size uint8) {
		if first == "" || second == "" || size == 0 {
			return
		}
		m := stopMatcher{stops: []string{first, second}}
		var out strings.Builder
		found := false
		for rest := text; rest != "" && !found; {
			piece := rest[:min(int(size), len(rest))]
			rest = rest[len(piece):]
			var part string
			part, found = m.push(piece)
			out.WriteString(part)
		}
		if !found {
			out.WriteString(m.flush())
		}
		want := text
		for end := 1; end <= len(text); end++ { // the first place where a stop string has come
			begin := len(text)
			for _, s := range []string{first, second} {
				if strings.HasSuffix(text[:end], s) {
					begin = min(begin, end-len(s))
				}
			}
			if begin < len(text) {
				want = text[:begin]
				break
			}
		}
		if out.String() != want {
			t.Errorf("stops %q, %q in %q, pieces of %d: got %q, want %q", first, second, text, size, out.String(), want)
		}
	})
}
