package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressInALog(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := NewProgress(&out)
	p.now = func() time.Time { return now }
	p.last = now
	for i := range 25 {
		now = time.Unix(int64(i), 0)
		p.Show("step %d", i)
	}
	p.Clear()
	require.Equal(t, "step 10\nstep 20\n", out.String())
}

func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := NewProgress(&out)
	p.now = func() time.Time { return now }
	p.rewrite, p.every, p.last = true, 100*time.Millisecond, now.Add(-time.Second)
	p.Show("one")
	p.Show("too soon")
	now = now.Add(time.Second)
	p.Show("two")
	p.Clear()
	p.Clear()
	require.Equal(t, "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K", out.String())
}

func TestSilentProgress(t *testing.T) {
	p := NewProgress(nil)
	p.Show("nothing")
	p.Clear()
	require.False(t, IsTerminal(&bytes.Buffer{}))
}
