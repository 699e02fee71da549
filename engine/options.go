// Package engine is the front door: it opens a model, schedules requests in continuous batches, samples, and reports.
package engine

import (
	"github.com/quire-llm/quire/attention"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
)

// Options say how an engine runs a model. The zero value of every field but Model is a default.
type Options struct {
	// Model is a directory, an owner/name in the Hugging Face cache, or a name that one of Providers serves.
	Model string
	// Providers serve names that are not directories: tiny.Provider, synthetic.Provider. They are separate packages so
	// that a service which loads its own weights does not carry ours.
	Providers []model.Provider
	// Checkpoint is a model that is already open; Model and Providers are ignored. Close does not close it.
	Checkpoint *model.Checkpoint

	// Device to run on, shared by the engines of a process. Nil: the engine opens one with DeviceOptions and owns it.
	Device        *kernels.Device
	DeviceOptions kernels.Options

	// Weights is the format of the matrices that products read: kernels.BF16 (default), or kernels.Int8, which is made of them
	// while the model is loaded: half the memory and nearly twice the speed of decoding, for an error that `quire verify` tells.
	Weights kernels.Format
	// WeightsCache is a directory where weights that were made are kept for the next time. "": they are made every time.
	WeightsCache string

	// Cache is the KV-cache strategy. Nil: kvcache.Standard{}.
	Cache kvcache.Strategy
	// BlockTokens is the size of a cache block: 16 (default), 32 or 64.
	BlockTokens int
	// CacheTokens is the capacity of the KV cache in tokens, rounded up to blocks. 0: enough for one sequence of
	// MaxContext and for MaxSequences of 512 tokens, or what fits in memory if that is less.
	CacheTokens int
	// TouchCache has Open write to all of the cache's memory, so that no request waits for the system to find it. By default
	// memory is taken as it is used.
	TouchCache bool
	// KV is the element type of the cache. Default: bfloat16. KVI8 takes about half of its memory, and an approximation.
	KV kernels.KVType

	// Attention says whether tokens that several sequences of a step share are attended once for all of them: attention.Auto
	// (default) where it pays, attention.Ordinary never, attention.Shared always. The tokens that come out are the same. A
	// device without shared attention (kernels.Info) is always ordinary.
	Attention attention.Mode

	// GPUMemory is the part of a GPU's free memory that may be taken, weights and all, up to 1. If it is given, and
	// CacheTokens is not, the KV cache takes all of it that is left. 0: at most 0.9, and a cache by CacheTokens' default.
	GPUMemory float64

	// MaxContext is the longest sequence, prompt and output together. 0: the model's own limit, or what the cache holds if
	// that is less.
	MaxContext int
	// MaxSequences run at once. Default 64, or StepTokens if that is less.
	MaxSequences int
	// StepTokens is the most tokens computed in one step, at least MaxSequences. Default 512, on a GPU 8192, or MaxSequences
	// if that is more. A long prompt is computed in several steps.
	StepTokens int
	// QueueRequests is the most requests that wait while MaxSequences run. Default 1024. Beyond that ErrOverloaded.
	QueueRequests int

	// Observer is told of every step.
	Observer Observer
	// Log receives one line for each thing a user should know (weights rounded, memory planned). Nil: nothing.
	Log func(line string)
	// CheckInvariants verifies the cache's books after every step and fails the engine if they are wrong. Tests set it,
	// and -tags invariants sets it everywhere.
	CheckInvariants bool
}
