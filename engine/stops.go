package engine

import "strings"

// stopMatcher looks for stop strings in a text that comes in pieces, and holds back what may be the beginning of one. The
// string whose end comes first counts, the longer one of those that end together: so the outcome depends on the text
// alone and not on how it was cut into pieces.
type stopMatcher struct {
	stops []string // valid UTF-8, not empty
	held  string   // came in and was not given out
}

// push takes the next piece. It returns the text that may be given out, and whether that is all because a stop string
// follows it.
func (m *stopMatcher) push(piece string) (text string, found bool) {
	if len(m.stops) == 0 {
		return piece, false
	}
	m.held += piece
	if at, found := m.find(); found {
		text, m.held = m.held[:at], ""
		return text, true
	}
	keep := m.beginning()
	text, m.held = m.held[:len(m.held)-keep], m.held[len(m.held)-keep:]
	return text, false
}

// flush gives out what is held back: nothing follows.
func (m *stopMatcher) flush() string {
	text := m.held
	m.held = ""
	return text
}

// find returns where the stop string begins whose end comes first.
func (m *stopMatcher) find() (at int, found bool) {
	end := 0
	for _, stop := range m.stops {
		i := strings.Index(m.held, stop)
		if i < 0 {
			continue
		}
		if e := i + len(stop); !found || e < end || e == end && i < at {
			at, end, found = i, e, true
		}
	}
	return at, found
}

// beginning is the length of the longest end of the held text that a stop string begins with.
func (m *stopMatcher) beginning() int {
	longest := 0
	for _, stop := range m.stops {
		for n := min(len(stop)-1, len(m.held)); n > longest; n-- {
			if strings.HasSuffix(m.held, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}
