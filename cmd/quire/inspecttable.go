package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model"
)

// write prints the description as a table.
func (d description) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("model", "%s", d.Model)
	if d.Synthetic {
		row("synthetic", "the weights are made up: speed means something, text does not")
	}
	row("architecture", "%s", d.Architecture)
	row("shape", "%d layers, hidden %d, MLP %d, vocabulary %d", d.Layers, d.Hidden, d.Intermediate, d.Vocab)
	if d.Experts != nil {
		row("experts", "%d of %d for each token, MLP %d", d.Experts.TopK, d.Experts.Experts, d.Experts.Intermediate)
	}
	row("attention", "%d query heads, %d key-value heads of %d%s", d.Heads, d.KVHeads, d.HeadDim, d.attentionExtras())
	row("rope", "%s", ropeText(d.Rope))
	row("context", "%d tokens", d.Context)
	row("end of text", "%s", joined(d.EOS))
	head := ""
	if d.TiedHead {
		head = ", the head is the embedding"
	}
	row("parameters", "%s%s", count(d.Parameters), head)
	row("weights", "%s as bfloat16, stored as %s", cli.Bytes(d.WeightBytes), joined(d.StoredAs))
	switch t := d.Tokenizer; {
	case t == nil:
		row("tokenizer", "none: token ids only")
	case t.ChatTemplate == "":
		row("tokenizer", "%d tokens, %d of them ordinary; no chat template", t.Tokens, t.Ordinary)
	default:
		row("tokenizer", "%d tokens, %d of them ordinary; chat template %s", t.Tokens, t.Ordinary, t.ChatTemplate)
	}
	m := d.Memory
	row("products", "%s weights, %s read in a step", m.Weights, cli.Bytes(m.StepBytes))
	row("KV cache", "%d bytes a token (%s)", m.KVBytesPerToken, m.KV)
	if m.AvailableBytes > 0 {
		row("fits here", "a context of %d tokens, in %s of available memory", m.LargestContext, cli.Bytes(m.AvailableBytes))
		for _, b := range m.LargestBatches {
			row("", "%d at once of %d tokens", b.Sequences, b.Context)
		}
	}
	if m.Problem != "" {
		row("memory", "%s", m.Problem)
	}
	if c := d.Check; c != nil {
		result := "all finite"
		if len(c.NonFinite) > 0 {
			result = fmt.Sprintf("NOT FINITE in %d tensors", len(c.NonFinite))
		}
		row("check", "%s, %s read", result, cli.Bytes(c.Bytes))
	}
	return table.Flush()
}

func (d description) attentionExtras() string {
	var extras string
	if d.QKNorm {
		extras += ", each query and key head normalized"
	}
	if d.QKVBias {
		extras += ", with biases"
	}
	return extras
}

// joined lists values with commas.
func joined[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

func ropeText(r model.Rope) string {
	text := fmt.Sprintf("%s, theta %s", r.Type, strconv.FormatFloat(r.Theta, 'f', -1, 64))
	if r.Type != model.RopeDefault {
		text += fmt.Sprintf(", factor %v", r.Factor)
	}
	if r.OriginalPositions > 0 {
		text += fmt.Sprintf(" over %d positions", r.OriginalPositions)
	}
	return text
}

// count is a number as people say it.
func count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f billion", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f million", float64(n)/1e6)
	}
	return fmt.Sprint(n)
}
