package engine

import "time"

// Request asks for a continuation of one prompt. Exactly one of Prompt, Messages, Tokens and Chunks is set.
type Request struct {
	Prompt   string    // text; special tokens in it are recognized
	Messages []Message // a chat, rendered with the model's template
	Tokens   []int32   // token ids
	Chunks   []Chunk   // an ordered list, tokenized apart and concatenated

	Sampling Sampling
	// N asks Batch for so many answers, at most 128; 0 is one. The first is the one that N = 1 gives. The others are drawn
	// with seeds that follow from Sampling.Seed, so they are repeatable too; greedy ones are all the same.
	N int

	// MaxTokens is the most tokens to generate. 0: as many as the context holds.
	MaxTokens int
	// Stop ends the text where one of these strings begins; the string itself is not given out.
	Stop []string
	// StopTokens end the text like an end-of-sequence token. They come besides the model's own.
	StopTokens []int32
	// IgnoreEOS goes on after an end-of-sequence token (benchmarks).
	IgnoreEOS bool

	// PromptLogprobs asks for the log-probability of every prompt token; all of them are computed then.
	PromptLogprobs bool
	// Logprobs asks for the n most likely tokens at every position, at most 64.
	Logprobs int
	// Force is the continuation to follow, whatever the model would choose: the tokens are reported with the model's own
	// choice and log-probabilities beside them (teacher forcing). MaxTokens is then len(Force), and nothing else stops.
	Force []int32

	// Deadline ends the request with DeadlineExceeded. Zero: none. The context's deadline counts as well.
	Deadline time.Time
	// Salt separates tenants in strategies that share cache content.
	Salt string
}

// Message is one turn of a chat.
type Message struct {
	Role    string // "system", "user" or "assistant"
	Content string
}

// Chunk is a part of a prompt that a strategy may hold and reuse on its own.
type Chunk struct {
	Text   string
	Tokens []int32 // instead of Text
}

// Token is one step of an answer.
type Token struct {
	ID      int32          // the token; -1 on the last event where the end brought no token of its own
	Text    string         // text that became complete with it: never a part of a rune, never a part of a stop string
	Argmax  int32          // the model's most likely token here
	Logprob float32        // natural log of the probability of ID
	Top     []TokenLogprob // Request.Logprobs of them, most likely first
	At      time.Time      // when the step that sampled it was done

	Finish FinishReason // set on the last event only, unless it comes with an error
	// Result is set on the last event only.
	Result *Result
}

// TokenLogprob is a candidate at one position.
type TokenLogprob struct {
	ID      int32
	Logit   float32
	Logprob float32
}

// FinishReason says why an answer ended.
type FinishReason string

// The reasons.
const (
	FinishStop   FinishReason = "stop"   // an end-of-sequence token, a stop token or a stop string
	FinishLength FinishReason = "length" // MaxTokens or the context's end
)

// Result sums a finished request up.
type Result struct {
	Tokens []int32     // all generated, the ending token included
	At     []time.Time // when each of Tokens was sampled
	Text   string      // what was streamed, in one piece
	Finish FinishReason
	Err    error // why the request failed; nil where Finish is set
	Usage  Usage
	// Prompt holds, for every prompt token from the second on, its log-probability given those before it, if asked for;
	// Prompt[0] is zero.
	Prompt []PromptLogprob
	// Exact says that the rows of this request saw nothing but their whole past, as it was written.
	Exact bool
}

// PromptLogprob is what the model thought of one prompt token.
type PromptLogprob struct {
	Logprob float32
	Argmax  int32 // what the model would have said in its place
	Top     []TokenLogprob
}

// Usage counts a request's tokens and time.
type Usage struct {
	PromptTokens     int
	CachedTokens     int // of the prompt, not computed for this request; counted by what was computed
	CompletionTokens int
	Preemptions      int           // times the request lost its blocks and was computed again
	Queue            time.Duration // from acceptance to admission
	Prefill          time.Duration // from admission to the first token
	Decode           time.Duration // from the first token to the last
}
