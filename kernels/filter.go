package kernels

// SampleFilter is what a row asks of the sampler besides its temperature. Each field that is zero asks for nothing, and a
// row whose filter is zero is drawn as if there were none.
//
// The order is: biases; penalties; temperature; TopK; TopP; MinP; TypicalP; and each works on what those before it have
// left. At temperature 0 the largest logit after biases and penalties is taken. What is compared is the logits, equal ones
// by smaller id; what is added up is the weights e^((logit − largest) / temperature) in units of 2⁻⁴⁰, as whole numbers,
// so that every device and every way of searching finds the same tokens. The random number picks among those left, in the
// order of their ids.
type SampleFilter struct {
	TopK     int32   // the k largest logits are left
	TopP     float32 // in (0, 1): the fewest largest logits that together have this part of the weight, the one that crosses it included
	MinP     float32 // in (0, 1]: those that have at least this part of the largest weight
	TypicalP float32 // in (0, 1): like TopP, but those first whose −log p is the nearest to the entropy

	RepetitionPenalty float32 // logits of tokens in Counts are divided by it if positive, else multiplied with it
	PresencePenalty   float32 // is taken off the logits of tokens in the output
	FrequencyPenalty  float32 // likewise, for each time

	Bias, Biases  int32 // first and number of the row's elements in SampleParams.Biases
	Count, Counts int32 // first and number of the row's elements in SampleParams.Counts, each token at most once
}

// TokenBias is added to a token's logit; −Inf masks it. A row with all its tokens masked takes its Argmax.
type TokenBias struct {
	Token int32
	Bias  float32
}

// TokenCount says that a token is in a row's prompt or output, and how often in the output.
type TokenCount struct {
	Token  int32
	Output int32
}
