package cli

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// Explain finds the exit code of an error and what to do about it. An error that knows its own hint keeps it.
func Explain(err error) *Problem {
	var known *Problem
	if errors.As(err, &known) {
		return &Problem{Err: err, Hint: known.Hint, Exit: known.Exit}
	}
	p := &Problem{Err: err, Exit: Failed, Hint: "run the command with --help for what it expects"}
	for _, k := range kinds {
		if k.is(err) {
			p.Exit, p.Hint = k.exit, k.hint
			break
		}
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		p.Hint = hinted.Hint()
	}
	return p
}

// kinds are the errors that the packages below return, most particular first.
var kinds = []struct {
	is   func(error) bool
	exit Exit
	hint string
}{
	{matches(context.Canceled), Interrupted, ""},
	{has[*model.NotFoundError], NotFound,
		"give a directory, an owner/name that is in the Hugging Face cache, tiny, or synthetic:qwen3-0.6b"},
	{has[*model.InvalidError], BadModel, "download the model's files again"},
	{has[*model.UnsupportedError], BadModel, "use a model of a supported architecture"},

	{has[*engine.ContextLengthError], Usage, "shorten the prompt, ask for fewer tokens with --max-tokens, or raise --context up to the model's limit"},
	{matches(engine.ErrContextLength), Usage, "shorten the prompt or ask for fewer tokens with --max-tokens"},
	{matches(engine.ErrInvalid), Usage, "correct the values named above"},
	{matches(engine.ErrNoMemory), NoMemory, "lower --context or --cache-tokens, or take a smaller model"},
	{matches(kvcache.ErrTooLong), NoMemory, "raise --cache-tokens, or shorten the prompt or --max-tokens"},
	{matches(kernels.ErrNoMemory), NoMemory, "lower --context or --cache-tokens, or free memory"},
	{matches(engine.ErrNonFinite), Failed, "check the weights with: quire inspect --check MODEL"},
	{matches(engine.ErrOverloaded), Failed, "send fewer requests at once"},

	{matches(hub.ErrOffline), Network, "check the network and HF_ENDPOINT"},
	{matches(hub.ErrStalled), Network, "try again; what has arrived is kept"},
	{matches(hub.ErrRateLimited), Network, "wait, or set HF_TOKEN"},
	{matches(hub.ErrServer), Network, "try again later"},
	{matches(hub.ErrAccess), Network, "set HF_TOKEN to a token that may read this model"},
	{matches(hub.ErrCorrupt), Network, "try again"},
	{matches(hub.ErrNotFound), NotFound, "check the owner, the name and the revision"},
	{matches(hub.ErrName), Usage, "write the model as owner/name"},
	{matches(hub.ErrWeights), BadModel, "take a repository that has .safetensors files"},
	{matches(hub.ErrSpace), Failed, "free disk space or set HF_HOME to another disk"},

	{matches(syscall.EADDRINUSE), Address, "take another port"},
	{matches(syscall.ENOSPC), Failed, "free disk space"},
	{matches(errors.ErrUnsupported), Usage, "take what is supported here"},
	{matches(fs.ErrNotExist), Failed, "check the path"},
	{matches(syscall.ENOTDIR), Failed, "check the path: a part of it is a file, and a directory is wanted"},
	{matches(syscall.EROFS), Failed, "take a path that can be written to"},
	{matches(fs.ErrPermission), Failed, "check who may read and write the path"},
}

func matches(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func has[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}
