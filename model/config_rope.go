package model

// rope reads the rotary embedding from "rope_parameters" (transformers 5) or from "rope_theta" and "rope_scaling" before
// it, with transformers 5's defaults. For YaRN it raises c.MaxPositions to what the scaling reaches.
func (r configReader) rope(c *Config) Rope {
	key := "rope_parameters"
	if !r.has(key) {
		key = "rope_scaling"
	}
	p := r.object(key)
	rope := Rope{
		Type:  RopeType(p.textOr("rope_type", p.textOr("type", string(RopeDefault)))),
		Theta: p.floatOr("rope_theta", 0, 1, 1e12),
	}
	switch theta := r.floatOr("rope_theta", 0, 1, 1e12); {
	case rope.Theta == 0 && theta == 0:
		rope.Theta = 10_000
	case rope.Theta == 0:
		rope.Theta = theta
	case theta != 0 && theta != rope.Theta:
		r.problem("rope_theta is %g but %s.rope_theta is %g", theta, key, rope.Theta)
	}
	for _, f := range []fields{r.fields, p} {
		if part := f.floatOr("partial_rotary_factor", 1, 0, 1); part != 1 {
			r.unsupported("partial_rotary_factor", f.show("partial_rotary_factor"), "1")
		}
	}

	const maxFactor = 1e6
	if p.has("full_attention") || p.has("sliding_attention") {
		rope.Type = "one for each layer type"
	}
	switch rope.Type {
	case RopeDefault:
	case RopeLinear:
		rope.Factor = p.float("factor", 1, maxFactor)
	case RopeYaRN:
		rope.OriginalPositions = r.originalPositions(p, c.MaxPositions)
		rope.Factor = p.floatOr("factor", float64(c.MaxPositions)/float64(rope.OriginalPositions), 1, maxFactor)
		rope.BetaFast = orIfZero(p.floatOr("beta_fast", 0, 0, 1e6), 32)
		rope.BetaSlow = orIfZero(p.floatOr("beta_slow", 0, 0, 1e6), 1)
		if rope.BetaFast < rope.BetaSlow {
			r.problem("%s.beta_fast %g is less than beta_slow %g", key, rope.BetaFast, rope.BetaSlow)
		}
		rope.AttentionFactor = p.floatOr("attention_factor", 0, 1e-6, maxFactor)
		rope.MScale = p.floatOr("mscale", 0, 0, maxFactor)
		rope.MScaleAllDim = p.floatOr("mscale_all_dim", 0, 0, maxFactor)
		rope.Truncate = p.boolOr("truncate", true)
		// Makers advise to add YaRN to a config and leave max_position_embeddings as it is.
		if reach := rope.Factor * float64(rope.OriginalPositions); reach > float64(c.MaxPositions) && reach <= maxPositions {
			c.MaxPositions = int(reach)
		}
	case RopeLlama3:
		rope.OriginalPositions = r.originalPositions(p, c.MaxPositions)
		rope.Factor = p.float("factor", 1, maxFactor)
		rope.LowFreqFactor = p.float("low_freq_factor", 1e-6, maxFactor)
		rope.HighFreqFactor = p.float("high_freq_factor", 1e-6, maxFactor)
		if rope.HighFreqFactor <= rope.LowFreqFactor && p.has("high_freq_factor") && p.has("low_freq_factor") {
			r.problem("%s.high_freq_factor %g is not more than low_freq_factor %g", key, rope.HighFreqFactor, rope.LowFreqFactor)
		}
	default:
		r.unsupported("rope type", string(rope.Type), string(RopeDefault), string(RopeLinear), string(RopeYaRN), string(RopeLlama3))
	}
	return rope
}

// originalPositions is the context before scaling. A key outside the rope object, which a few models have, comes first.
func (r configReader) originalPositions(p fields, context int) int {
	const key = "original_max_position_embeddings"
	if r.has(key) {
		return r.integer(key, 1, maxPositions)
	}
	return p.integerOr(key, context, 1, maxPositions)
}

func orIfZero(x, otherwise float64) float64 {
	if x == 0 {
		return otherwise
	}
	return x
}
