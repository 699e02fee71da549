package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	firstPause   = 500 * time.Millisecond // doubled after each failure in a row
	longestPause = 30 * time.Second
	longestAsked = 5 * time.Minute // a server that asks to wait longer ends the pull
	// firstRetries are for a server that has never answered: most likely there is no network, or no such server, and
	// nobody wants to wait a minute to be told so.
	firstRetries = 3
	// progressBytes is how much an attempt must add for the failures before it to be forgotten. So a bad line can still
	// bring a large file, and a server that sends a byte and hangs up cannot hold a pull for ever.
	progressBytes = 1 << 20
)

// retry calls try until it succeeds, fails for good, or has failed too often without progress. try returns how many
// bytes it added beyond all earlier attempts. what names the file, for the observer.
func (c *client) retry(ctx context.Context, what string, try func(context.Context) (gained int64, err error)) error {
	for failures := 0; ; {
		gained, err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !transient(err) {
			return err
		}
		if gained >= progressBytes {
			failures = 0
		}
		limit := c.opt.Retries
		if !c.answered.Load() {
			limit = min(limit, firstRetries)
		}
		pause := min(firstPause<<min(failures, 16), longestPause)
		pause = pause/2 + time.Duration(c.opt.Jitter()*float64(pause/2))
		if failures++; failures > limit {
			return fmt.Errorf("after %d attempts: %w", failures, err)
		}
		var status *StatusError
		if errors.As(err, &status) && status.RetryAfter > 0 {
			if status.RetryAfter > longestAsked {
				return fmt.Errorf("the server asks to wait %v: %w", status.RetryAfter, err)
			}
			pause = max(pause, status.RetryAfter)
		}
		c.opt.Observer.retry(what, Retry{Attempt: failures, Limit: limit, Pause: pause, Err: err})
		if err := c.opt.Clock.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// transient reports whether the same request may well succeed later.
func transient(err error) bool {
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) || errors.Is(err, errRedirect) {
		return false
	}
	var status *StatusError
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		}
		return status.StatusCode >= 500
	}
	var transfer *TransferError
	return errors.As(err, &transfer)
}
