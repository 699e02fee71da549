package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quire-llm/quire/internal/cli"
)

// openPTY is a terminal without a screen: what is written to keys is typed on terminal.
func openPTY(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine gives no terminals: %v", err)
	}
	t.Cleanup(func() { keys.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { terminal.Close() })
	return keys, terminal
}

// awaitRaw waits until keys are, or are not, handed on one by one.
func awaitRaw(terminal *os.File, raw bool) {
	for {
		state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil || (state.Lflag&unix.ICANON == 0) == raw {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestChatOnATerminal(t *testing.T) {
	keys, terminal := openPTY(t)
	go io.Copy(io.Discard, keys) // the echo, which would fill up
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)

	go func() {
		awaitRaw(terminal, true)
		keys.WriteString("wrong\x03" + question + "\r") // Ctrl-C clears the line
		awaitRaw(terminal, false)                       // the answer comes
		awaitRaw(terminal, true)
		keys.WriteString("\x04") // Ctrl-D ends the chat
	}()
	var stdout, stderr bytes.Buffer
	app := &App{Stdin: terminal, Stdout: &stdout, Stderr: &stderr, Args: []string{"run", "-model", "tiny"}}
	require.Equal(t, cli.OK, app.Run(t.Context()), stderr.String())
	require.Contains(t, stdout.String(), answered)
	require.Contains(t, stderr.String(), "/clear forgets the conversation")
	require.Contains(t, stderr.String(), "35 prompt tokens")

	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	require.Equal(t, before, after, "the terminal was left changed")
}

func TestRawChatIsRefused(t *testing.T) {
	_, terminal := openPTY(t)
	r := runWith(t, &App{Stdin: terminal, Args: []string{"run", "-model", "tiny", "-raw"}})
	r.refused(t, cli.Usage, "chat template", "--raw")
}
