package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"tiny", "tiny", 0}, {"tinny", "tiny", 1}, {"tiny", "tinny", 1}, {"tiyn", "tiny", 2},
		{"kitten", "sitting", 3}, {"qwen3-0.6b", "qwen3-0.8b", 1}, {"abc", "xyz", 3}, {"flaw", "lawn", 2},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q): got %d, want %d", c.a, c.b, got, c.want)
		}
		if got := Distance(c.b, c.a); got != c.want {
			t.Errorf("Distance(%q, %q): got %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
