package main

import (
	"fmt"

	"github.com/quire-llm/quire/kvcache"
)

// mode is a way to read chunks.
type mode struct {
	Name           string // "exact", "alone" or "after-head"
	RecomputeFirst int
	HeadGap        int
	chunked        kvcache.Chunked
}

// The modes' names. Exact comes first: the others are compared with it.
const (
	exact     = "exact"
	alone     = "alone"
	afterHead = "after-head"
)

// modes are exact, after the head at each distance, and alone with each count of tokens to compute again.
func modes(headGaps, recomputeFirst []int) []mode {
	independent := kvcache.Chunked{Mode: kvcache.Independent}
	all := []mode{{Name: exact}}
	for _, n := range headGaps {
		c := independent
		c.AfterHead, c.HeadGap = true, n
		if n == 0 {
			c.HeadGap = kvcache.NoHeadGap
		}
		all = append(all, mode{Name: afterHead, HeadGap: n, chunked: c})
	}
	for _, n := range recomputeFirst {
		c := independent
		c.RecomputeFirst = n
		all = append(all, mode{Name: alone, RecomputeFirst: n, chunked: c})
	}
	return all
}

// strategy keeps chunks when the question that brought them is answered.
func (m mode) strategy() kvcache.Strategy { return kvcache.Reuse{Over: m.chunked} }

// label is the mode for people.
func (m mode) label() string {
	switch {
	case m.RecomputeFirst > 0:
		return fmt.Sprintf("%s, %d again", m.Name, m.RecomputeFirst)
	case m.Name == afterHead:
		return fmt.Sprintf("after head + %d", m.HeadGap)
	}
	return m.Name
}
