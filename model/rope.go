package model

import (
	"math"
	"runtime"
	"sync"
)

// Table is the table of rotary angles that the kernels read: for each position, headDim/2 cosines and then headDim/2
// sines, with YaRN's factor in them. It is rounded where transformers rounds: frequencies, angles, cosines and sines in
// float32.
//
// RoPE: Su et al., https://arxiv.org/abs/2104.09864.
func (r Rope) Table(positions, headDim int) []float32 {
	table := make([]float32, positions*headDim)
	frequencies, factor := r.frequencies(headDim)
	if r.BF16Frequencies {
		for i, f := range frequencies {
			frequencies[i] = math.Float32frombits(uint32(bf16FromF32(math.Float32bits(f))) << 16)
		}
	}
	workers := runtime.GOMAXPROCS(0)
	share := (positions + workers - 1) / workers
	var wg sync.WaitGroup
	for from := 0; from < positions; from += share {
		wg.Go(func() {
			for pos := from; pos < min(from+share, positions); pos++ {
				row := table[pos*headDim:][:headDim]
				for i, f := range frequencies {
					sin, cos := math.Sincos(float64(float32(pos) * f))
					row[i] = float32(cos) * factor
					row[headDim/2+i] = float32(sin) * factor
				}
			}
		})
	}
	wg.Wait()
	return table
}

// frequencies are the angles per position of the headDim/2 pairs, and the factor on cosines and sines.
func (r Rope) frequencies(headDim int) ([]float32, float32) {
	f := make([]float32, headDim/2)
	for i := range f {
		f[i] = 1 / r.wavelength(i, headDim)
	}
	switch r.Type {
	case RopeLinear:
		for i := range f {
			f[i] /= float32(r.Factor)
		}
	case RopeYaRN:
		r.yarn(f, headDim)
		return f, float32(r.attentionFactor())
	case RopeLlama3:
		r.llama3(f)
	}
	return f, 1
}

// wavelength is theta^(2i/headDim): positions per radian of pair i.
func (r Rope) wavelength(i, headDim int) float32 {
	exponent := float32(2*i) / float32(headDim)
	return float32(math.Pow(float64(float32(r.Theta)), float64(exponent)))
}

// yarn divides low frequencies by the factor, leaves high ones alone and blends in between.
// Peng et al., "YaRN", https://arxiv.org/abs/2309.00071, section 3.2.
func (r Rope) yarn(f []float32, headDim int) {
	// pair is the index whose angle makes so many turns within the original context.
	pair := func(turns float64) float64 {
		return float64(headDim) * math.Log(float64(r.OriginalPositions)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := pair(r.BetaFast), pair(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(headDim-1))
	if low == high {
		high += 0.001
	}
	for i := range f {
		ramp := min(max((float32(i)-float32(low))/float32(high-low), 0), 1)
		keep := 1 - ramp
		stretched := 1 / (float32(r.Factor) * r.wavelength(i, headDim))
		f[i] = stretched*(1-keep) + f[i]*keep
	}
}

// attentionFactor makes up for the attention being spread over more tokens; it is applied to query and key alike.
func (r Rope) attentionFactor() float64 {
	scale := func(m float64) float64 {
		if r.Factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(r.Factor) + 1
	}
	switch {
	case r.AttentionFactor != 0:
		return r.AttentionFactor
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return scale(r.MScale) / scale(r.MScaleAllDim)
	default:
		return scale(1)
	}
}

// llama3 divides frequencies that turn less than LowFreqFactor times within the original context by the factor, leaves
// those above HighFreqFactor alone and blends in between.
func (r Rope) llama3(f []float32) {
	original := float32(r.OriginalPositions)
	longest := float32(float64(r.OriginalPositions) / r.LowFreqFactor)
	shortest := float32(float64(r.OriginalPositions) / r.HighFreqFactor)
	for i := range f {
		length := float32(2*math.Pi) / f[i]
		switch {
		case length > longest:
			f[i] /= float32(r.Factor)
		case length >= shortest:
			keep := (original/length - float32(r.LowFreqFactor)) / float32(r.HighFreqFactor-r.LowFreqFactor)
			f[i] = (1-keep)*f[i]/float32(r.Factor) + keep*f[i]
		}
	}
}
