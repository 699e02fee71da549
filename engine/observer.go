package engine

import "time"

// Observer is told what an engine does. Its functions run in the step loop and delay it: they must be quick and must not
// call the engine. Nil ones are left out.
type Observer struct {
	StepDone func(StepInfo)
}

// StepInfo describes a step that has run.
type StepInfo struct {
	Rows          int // tokens computed: DecodeRows and PrefillTokens
	DecodeRows    int
	PrefillTokens int
	Running       int // sequences after the step
	Waiting       int
	// Start is when its planning began. A step that was planned while another ran starts when that one was done.
	Start    time.Time
	Duration time.Duration // planning and committing included
}
