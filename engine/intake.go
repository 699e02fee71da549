package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxTops is the most likely tokens that a request may ask for at each position.
const maxTops = 64

// intake turns requests into sequences. Any number of goroutines may use it.
type intake struct {
	text    codec
	vocab   int
	context int
	eos     []int32
}

// codec is the model's side of text.
type codec interface {
	// encode appends the tokens of text to dst; first says that it begins the sequence.
	encode(dst []int32, text string, first bool) []int32
	// decoder returns a decoder for one answer.
	decoder() decoder
	// render lays out a chat and asks for the answer.
	render(messages []Message) (string, error)
}

// sequence validates a request and tokenizes it, in the caller's goroutine. The result shares nothing with the request.
func (in *intake) sequence(r *Request) (*sequence, error) {
	if problems := in.problems(r); len(problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(problems, "; "))
	}
	tokens, chunks, err := in.prompt(r)
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%w: the prompt is empty", ErrInvalid)
	}
	output := max(r.MaxTokens, len(r.Force))
	if most := in.context - len(tokens); output > most || most < 1 {
		return nil, &ContextLengthError{PromptTokens: len(tokens), MaxTokens: max(output, 1), Context: in.context}
	} else if output == 0 {
		output = most
	}
	seq := &sequence{
		accepted:    time.Now(),
		answer:      newAnswer(in.text.decoder(), slices.Clone(r.Stop)),
		tokens:      tokens,
		known:       len(tokens),
		prompt:      len(tokens),
		limit:       len(tokens) + output,
		chunks:      chunks,
		salt:        r.Salt,
		ends:        in.endsOf(r),
		temperature: float32(r.Sampling.Temperature),
		seed:        r.Sampling.Seed,
		tops:        r.Logprobs,
		cached:      -1,
	}
	if len(r.Force) > 0 {
		seq.force = slices.Clone(r.Force)
		seq.answer.stops = stopMatcher{}
	} else {
		seq.filtering = newFiltering(&r.Sampling, tokens, seq.ends)
	}
	if r.PromptLogprobs {
		seq.promptProbs = make([]PromptLogprob, len(tokens))
		for i := 1; i < len(tokens); i++ {
			seq.promptProbs[i].Argmax = -1
		}
		seq.promptUnknown = len(tokens) - 1
	}
	return seq, nil
}

// endsOf are the tokens that end the request's text.
func (in *intake) endsOf(r *Request) []int32 {
	if r.IgnoreEOS {
		return slices.Clone(r.StopTokens)
	}
	return slices.Concat(r.StopTokens, in.eos)
}

// problems names every field that is wrong.
func (in *intake) problems(r *Request) []string {
	var found []string
	wrong := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	kinds := 0
	for _, set := range []bool{r.Prompt != "", len(r.Messages) > 0, len(r.Tokens) > 0, len(r.Chunks) > 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		wrong("exactly one of Prompt, Messages, Tokens and Chunks must be set, not %d", kinds)
	}
	if _, idsOnly := in.text.(noText); idsOnly && r.hasText() {
		wrong("the model has no tokenizer, so it takes token ids only")
	}
	in.checkTokens(wrong, "Tokens", r.Tokens)
	for i, c := range r.Chunks {
		if (c.Text != "") == (len(c.Tokens) > 0) {
			wrong("Chunks[%d] must have either Text or Tokens", i)
		}
		in.checkTokens(wrong, fmt.Sprintf("Chunks[%d].Tokens", i), c.Tokens)
	}
	in.checkTokens(wrong, "StopTokens", r.StopTokens)
	in.checkTokens(wrong, "Force", r.Force)
	for i, s := range r.Stop {
		if s == "" || !utf8.ValidString(s) {
			wrong("Stop[%d] must be text that is not empty, not %q", i, s)
		}
	}
	in.samplingProblems(r, wrong)
	if r.N < 0 || r.N > maxAnswers {
		wrong("N must be 0 to %d, not %d", maxAnswers, r.N)
	}
	if r.MaxTokens < 0 {
		wrong("MaxTokens must be 0 or more, not %d", r.MaxTokens)
	}
	if len(r.Force) > 0 && r.MaxTokens != 0 && r.MaxTokens != len(r.Force) {
		wrong("MaxTokens must be 0 or the %d tokens of Force, not %d", len(r.Force), r.MaxTokens)
	}
	if r.Logprobs < 0 || r.Logprobs > min(maxTops, in.vocab) {
		wrong("Logprobs must be 0 to %d, not %d", min(maxTops, in.vocab), r.Logprobs)
	}
	return found
}

// hasText says whether some of the prompt is text.
func (r *Request) hasText() bool {
	return r.Prompt != "" || len(r.Messages) > 0 || slices.ContainsFunc(r.Chunks, func(c Chunk) bool { return c.Text != "" })
}

// checkTokens reports the first token of a field that the model does not have.
func (in *intake) checkTokens(wrong func(string, ...any), field string, tokens []int32) {
	for i, id := range tokens {
		if id < 0 || int(id) >= in.vocab {
			wrong("%s[%d] is %d, outside the vocabulary of %d tokens", field, i, id, in.vocab)
			return
		}
	}
}

// prompt is the request's prompt as tokens, and where its chunks end.
func (in *intake) prompt(r *Request) (tokens []int32, chunks []int, err error) {
	switch {
	case len(r.Tokens) > 0:
		return slices.Clone(r.Tokens), nil, nil
	case len(r.Chunks) > 0:
		for i, c := range r.Chunks {
			if c.Text != "" {
				tokens = in.text.encode(tokens, c.Text, i == 0)
			} else {
				tokens = append(tokens, c.Tokens...)
			}
			chunks = append(chunks, len(tokens))
		}
		return tokens, chunks, nil
	case len(r.Messages) > 0:
		text, err := in.text.render(r.Messages)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil, nil, err
		case err != nil:
			return nil, nil, fmt.Errorf("%w: Messages: %w", ErrInvalid, err)
		}
		return in.text.encode(nil, text, false), nil, nil
	default:
		return in.text.encode(nil, r.Prompt, true), nil, nil
	}
}
