package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed llama.js
var llamaScript string

// errAbsent says that there is no llama.cpp to compare with.
var errAbsent = errors.New("llama.cpp is not here")

// findLlama looks for the addon of the npm package below a folder. Only builds for the processor alone are taken.
func findLlama(dir string) (addon string, err error) {
	for _, platform := range []string{"linux-x64", "linux-arm64", "mac-x64"} {
		addon = filepath.Join(dir, "node_modules", "@node-llama-cpp", platform, "bins", platform, "llama-addon.node")
		if _, err := os.Stat(addon); err == nil {
			return filepath.Abs(addon)
		}
	}
	return "", fmt.Errorf("rivals: looking below %q: %w", dir, errAbsent)
}

// llama is a process that runs llama.cpp on one file.
type llama struct {
	system  string // what it says of itself
	process *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
}

// llamaCall is what a process is asked for: the prompt in every sequence, then so many tokens.
type llamaCall struct {
	Sequences int     `json:"sequences"`
	Prompt    []int32 `json:"prompt"`
	Output    int     `json:"output"`
	Threads   int     `json:"threads"`
	Flash     bool    `json:"flash"`
	Sample    bool    `json:"sample"` // choose tokens, greedily; else any will do, which costs nothing
}

// llamaAnswer is its answer.
type llamaAnswer struct {
	PrefillSeconds float64   `json:"prefill_seconds"`
	DecodeSeconds  float64   `json:"decode_seconds"` // of all tokens but each sequence's first
	Answers        [][]int32 `json:"answers"`
	Ready          string    `json:"ready"`
	Error          string    `json:"error"`
}

// startLlama starts node with the addon and waits until the model is loaded.
func startLlama(ctx context.Context, addon, gguf string) (*llama, error) {
	l := &llama{process: exec.CommandContext(ctx, "node", "--eval", llamaScript, addon, gguf)}
	l.process.Stderr = io.Discard // llama.cpp's own chatter; failures come as answers
	var err error
	if l.input, err = l.process.StdinPipe(); err != nil {
		return nil, fmt.Errorf("rivals: starting node: %w", err)
	}
	output, err := l.process.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("rivals: starting node: %w", err)
	}
	l.output = bufio.NewReader(output)
	if err := l.process.Start(); err != nil {
		return nil, fmt.Errorf("rivals: starting node: %w", err)
	}
	ready, err := l.read()
	if err != nil {
		l.close()
		return nil, err
	}
	l.system = ready.Ready
	return l, nil
}

// call runs one call.
func (l *llama) call(c llamaCall) (llamaAnswer, error) {
	line, err := json.Marshal(c)
	if err != nil {
		return llamaAnswer{}, fmt.Errorf("rivals: asking llama.cpp: %w", err)
	}
	if _, err := l.input.Write(append(line, '\n')); err != nil {
		return llamaAnswer{}, fmt.Errorf("rivals: asking llama.cpp: %w", err)
	}
	return l.read()
}

func (l *llama) read() (answer llamaAnswer, err error) {
	line, err := l.output.ReadBytes('\n')
	if err != nil {
		return answer, fmt.Errorf("rivals: reading llama.cpp's answer: %w", err)
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return answer, fmt.Errorf("rivals: reading llama.cpp's answer %q: %w", line, err)
	}
	if answer.Error != "" {
		return answer, fmt.Errorf("rivals: llama.cpp: %s", answer.Error)
	}
	return answer, nil
}

// close ends the process.
func (l *llama) close() {
	l.input.Close()
	l.process.Wait()
}
