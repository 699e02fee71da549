package tokenizer

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestManyGoroutines is for the race detector: everything a tokenizer does, by many at once, on one tokenizer.
func TestManyGoroutines(t *testing.T) {
	tok := tiny(t)
	texts := []string{
		"the quick brown fox", "<|im_start|>user\nhi<|im_end|>", "e\u0301\u0323 ñ", strings.Repeat("attention ", 50), strings.Repeat("=", 300), "\xff你好",
	}
	var want [][]int32
	var decoded []string
	for _, text := range texts {
		ids := tok.Encode(nil, text)
		want = append(want, ids)
		decoded = append(decoded, tok.Decode(ids))
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for round := range 50 {
				i := (g + round) % len(texts)
				if got := tok.Encode(nil, texts[i]); !slices.Equal(got, want[i]) {
					t.Errorf("%q: got %v, want %v", texts[i], got, want[i])
				}
				if got, _ := tok.EncodeOffsets(texts[i], EncodeOptions{}); !slices.Equal(got, want[i]) {
					t.Errorf("%q with offsets: got %v, want %v", texts[i], got, want[i])
				}
				s := tok.NewStream(DecodeOptions{})
				var b strings.Builder
				for _, id := range want[i] {
					b.WriteString(s.Next(id))
				}
				b.WriteString(s.Flush())
				if got := b.String(); got != decoded[i] {
					t.Errorf("got %q, want %q", got, decoded[i])
				}
				tok.ID(texts[i])
				tok.Token(int32(round))
			}
		})
	}
	all.Wait()
}
