package model

// Generation is generation_config.json: what the model's makers advise. Nil fields are absent.
type Generation struct {
	EOS         []int32
	Temperature *float64
	TopP        *float64
	TopK        *int
	DoSample    *bool
}

// parseGeneration reads generation_config.json; nil data gives the zero Generation.
func parseGeneration(file string, data []byte, vocab int) (Generation, error) {
	var g Generation
	if data == nil {
		return g, nil
	}
	var problems []error
	f := readFields(data, &problems)
	g.EOS = f.tokens("eos_token_id", vocab)
	if f.has("temperature") {
		g.Temperature = new(f.float("temperature", 0, 1e6))
	}
	if f.has("top_p") {
		g.TopP = new(f.float("top_p", 0, 1))
	}
	if f.has("top_k") {
		g.TopK = new(f.integer("top_k", -1, 1<<31-1)) // 0 and -1: no limit
	}
	if f.has("do_sample") {
		g.DoSample = new(f.boolOr("do_sample", false))
	}
	if len(problems) > 0 {
		return Generation{}, &InvalidError{File: file, Problems: problems, Advice: "correct the named fields, or remove the file"}
	}
	return g, nil
}
