package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pieces is a decoder with a piece of text for each token, and one for the end.
type pieces struct {
	text []string
	rest string
}

func (p pieces) Next(token int32) string { return p.text[token] }
func (p pieces) Flush() string           { return p.rest }

// TestAnswer feeds an answer what the step loop may send.
func TestAnswer(t *testing.T) {
	text := pieces{text: []string{"a", "b", "<", "end>", "é", ""}, rest: "\uFFFD"}
	none := pieces{text: text.text}
	broken := errors.New("broken")
	sampled := func(tokens ...int32) (events []event) {
		for _, token := range tokens {
			events = append(events, event{token: token})
		}
		return events
	}
	last := func(token int32, e ending) func([]event) []event {
		return func(events []event) []event { return append(events, event{token: token, end: &e}) }
	}
	for _, c := range []struct {
		name    string
		decoder pieces
		stops   []string
		tokens  []int32
		end     func([]event) []event
		texts   []string // of the tokens given out
		finish  FinishReason
		err     error
		halted  bool
	}{
		{"length", none, nil, []int32{0, 1}, last(4, ending{finish: FinishLength}), []string{"a", "b", "é"}, FinishLength, nil, false},
		{"length, a rune cut short", text, nil, []int32{0, 5}, last(5, ending{finish: FinishLength}), []string{"a", "", "\uFFFD"}, FinishLength, nil, false},
		{"the ending token has no text", none, nil, []int32{0}, last(1, ending{finish: FinishStop}), []string{"a", ""}, FinishStop, nil, false},
		{"held back, then an ending token", none, []string{"<x"}, []int32{0, 2}, last(1, ending{finish: FinishStop}), []string{"a", "", "<"}, FinishStop, nil, false},
		{"held back, then the length", none, []string{"<x"}, []int32{0}, last(2, ending{finish: FinishLength}), []string{"a", "<"}, FinishLength, nil, false},
		{"stop string", none, []string{"<end>"}, []int32{0, 2, 3}, last(-1, ending{finish: FinishStop}), []string{"a", "", ""}, FinishStop, nil, true},
		{"more tokens before the loop heard of it", none, []string{"<end>"}, []int32{0, 2, 3, 1, 1}, last(1, ending{finish: FinishLength}), []string{"a", "", ""}, FinishStop, nil, true},
		{"stop string with the last token", none, []string{"<end>"}, []int32{0, 2}, last(3, ending{finish: FinishLength}), []string{"a", "", ""}, FinishStop, nil, false},
		{"stop string in what was cut short", text, []string{"\uFFFD"}, []int32{0}, last(5, ending{finish: FinishLength}), []string{"a", ""}, FinishStop, nil, false},
		{"a failure after the stop string", none, []string{"b"}, []int32{0, 1}, last(-1, ending{err: broken}), []string{"a", ""}, FinishStop, nil, true},
		{"failure", none, nil, []int32{0, 1}, last(-1, ending{err: broken}), []string{"a", "b", ""}, "", broken, false},
		{"failure at once", none, nil, nil, last(-1, ending{err: broken}), []string{""}, "", broken, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAnswer(c.decoder, c.stops)
			halted := false
			a.halt = func() { halted = true }
			for _, ev := range c.end(sampled(c.tokens...)) {
				ev.at = time.Now()
				a.handle(ev)
			}
			require.True(t, a.over)
			var texts []string
			joined := ""
			for _, tok := range a.ready {
				texts = append(texts, tok.Text)
				joined += tok.Text
			}
			require.Equal(t, c.texts, texts)
			result := a.ready[len(a.ready)-1].Result
			require.Equal(t, c.finish, a.ready[len(a.ready)-1].Finish)
			require.Equal(t, c.finish, result.Finish)
			require.Equal(t, c.err, a.err)
			require.Equal(t, c.err, result.Err)
			require.Equal(t, joined, result.Text)
			require.Equal(t, c.halted, halted)
			if c.err == nil {
				require.Len(t, result.Tokens, len(c.texts))
			}
			require.Len(t, result.At, len(result.Tokens))
		})
	}
}
