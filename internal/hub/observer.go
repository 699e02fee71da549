package hub

import "time"

// Observer is told how a pull goes. Any func may be nil. They are called from several goroutines at once, must not
// block for long and must not call the Pull.
type Observer struct {
	Start     func(p *Pull)                    // before the first file
	FileStart func(f File)                     // f.HaveBytes of it lie here already
	Bytes     func(name string, have int64)    // so many bytes of the file are here; may fall when some are thrown away
	FileDone  func(f File)                     // checked and in its place
	Wait      func(name string)                // another pull is at this file; once a file
	Retry     func(name string, attempt Retry) // a failure that is not the last; name is "" for the listing
}

// Retry is one failure and what follows.
type Retry struct {
	Attempt, Limit int           // failures in a row so far, and how many are borne
	Pause          time.Duration // before the next attempt
	Err            error
}

func (o Observer) start(p *Pull) {
	if o.Start != nil {
		o.Start(p)
	}
}

func (o Observer) fileStart(f File) {
	if o.FileStart != nil {
		o.FileStart(f)
	}
}

func (o Observer) bytes(name string, have int64) {
	if o.Bytes != nil {
		o.Bytes(name, have)
	}
}

func (o Observer) fileDone(f File) {
	if o.FileDone != nil {
		o.FileDone(f)
	}
}

func (o Observer) wait(name string) {
	if o.Wait != nil {
		o.Wait(name)
	}
}

func (o Observer) retry(name string, r Retry) {
	if o.Retry != nil {
		o.Retry(name, r)
	}
}
