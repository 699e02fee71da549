package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// What errors.Is finds in the errors of this package, so that a caller can choose an exit status.
var (
	ErrNotFound    = errors.New("not found")                        // no such model, revision or file; or not in the cache
	ErrAccess      = errors.New("access denied")                    // 401 and 403: gated, private, or a token missing or wrong
	ErrRateLimited = errors.New("too many requests")                // 429, after the retries
	ErrServer      = errors.New("server failure")                   // 5xx, after the retries
	ErrOffline     = errors.New("offline")                          // the network is forbidden or the server cannot be reached
	ErrStalled     = errors.New("no bytes arrived in time")         // after the retries
	ErrCorrupt     = errors.New("content is not what was promised") // size or digest, twice
	ErrWeights     = errors.New("no safetensors weights")           // only pickles or other formats that Quire does not read
	ErrSpace       = errors.New("not enough disk space")            // see SpaceError
	ErrName        = errors.New("name refused")                     // malformed or unsafe name, from the user or the server
)

// Hint is one line with the likely cause of err and what to do about it; "" where the error says it all.
func Hint(err error) string {
	var h interface{ Hint() string }
	switch {
	case errors.As(err, &h):
		return h.Hint()
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "the folder may not be written: check its owner and mode, or choose another with HF_HUB_CACHE"
	}
	return ""
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// StatusError is an HTTP status that is no success. It matches ErrAccess, ErrNotFound, ErrRateLimited or ErrServer.
type StatusError struct {
	StatusCode int
	URL        string        // without its query, which may hold a signature
	Code       string        // X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound or ""
	Message    string        // the server's own words, made printable
	RetryAfter time.Duration // how long the server asks to wait; 0 if it does not say
	HadToken   bool          // a token was sent

	page string // the model's page, for the hint
}

// Error is the cause in one line.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s: status %d %s", e.URL, e.StatusCode, http.StatusText(e.StatusCode))
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	return text
}

// Is makes errors.Is work with this package's sentinels.
func (e *StatusError) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrAccess
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	case http.StatusTooManyRequests:
		return target == ErrRateLimited
	}
	return e.StatusCode >= 500 && target == ErrServer
}

// Hint says what to do about the status.
func (e *StatusError) Hint() string {
	switch {
	case e.Is(ErrAccess) && !e.HadToken && e.Code != "GatedRepo":
		return fmt.Sprintf("the model does not exist, or is private or gated and no token was sent: check the name; "+
			"if it is right, accept the terms at %s and set HF_TOKEN to a token that may read it", e.page)
	case e.Is(ErrAccess) && !e.HadToken:
		return fmt.Sprintf("the model is gated and no token was sent: accept the terms at %s and set HF_TOKEN", e.page)
	case e.StatusCode == http.StatusUnauthorized && e.Code != "GatedRepo":
		return "the server does not accept the token: it may have expired; make a new one and set HF_TOKEN, or unset it for a public model"
	case e.Is(ErrAccess):
		return fmt.Sprintf("the token's owner has no access to this model: accept the terms at %s and wait until they "+
			"are granted; a fine-grained token also needs the right to read gated repositories", e.page)
	case e.Is(ErrNotFound) && e.Code == "RevisionNotFound":
		return "the model has no such revision: see the branches and tags at " + e.page
	case e.Is(ErrNotFound):
		return "there is no such model, revision or file: check the name, with upper and lower case, at " + e.page
	case e.Is(ErrRateLimited):
		return "the server limits how much one client may ask for: wait some minutes and pull again (it goes on where " +
			"it stopped), or set HF_TOKEN, which raises the limit"
	case e.Is(ErrServer):
		return "the server has a problem of its own: pull again later, it goes on where it stopped"
	}
	return "the server answered with something that a model hub does not say: check HF_ENDPOINT and proxies"
}

// TransferError is a connection that could not be made or broke, or an answer that made no sense. It is returned after
// the retries.
type TransferError struct {
	URL string // without its query
	Err error
}

// Error is the cause in one line.
func (e *TransferError) Error() string { return fmt.Sprintf("%s: %v", e.URL, e.Err) }

// Unwrap gives the cause.
func (e *TransferError) Unwrap() error { return e.Err }

// Is matches ErrOffline where no connection could be made at all.
func (e *TransferError) Is(target error) bool { return target == ErrOffline && e.unreachable() }

func (e *TransferError) unreachable() bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(e.Err, &dns) || errors.As(e.Err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// Hint says what to do about the connection.
func (e *TransferError) Hint() string {
	switch {
	case e.unreachable():
		return "the server cannot be reached: check the network, HTTPS_PROXY and HF_ENDPOINT; " +
			"models already in the cache work without it"
	case errors.Is(e.Err, errRedirect):
		return "the server sends requests where they should not go: check HF_ENDPOINT and proxies"
	case strings.Contains(e.Err.Error(), "x509:") || strings.Contains(e.Err.Error(), "tls:"):
		return "the server's certificate is not accepted: check the clock, and SSL_CERT_FILE if a proxy has its own authority"
	}
	return "the connection is not stable: pull again, it goes on where it stopped"
}

// CorruptError is a content whose size or digest is not the one that the listing promised. It matches ErrCorrupt.
type CorruptError struct {
	File      string
	Want, Got string // digests, or sizes in bytes
}

// Error is the cause in one line.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%q: %v: want %s, got %s", e.File, ErrCorrupt, e.Want, e.Got)
}

// Is matches ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Hint says what to do about the content.
func (e *CorruptError) Hint() string {
	return "the content was fetched twice and was wrong both times, and nothing of it was kept: a proxy or mirror may " +
		"change or have stale content; check HF_ENDPOINT, or pull again later"
}

// SpaceError is a disk without room for what is still missing. It matches ErrSpace.
type SpaceError struct {
	Dir                    string
	NeededBytes, FreeBytes int64
}

// Error is the cause in one line.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("%q: %v: needs %s, has %s", e.Dir, ErrSpace, SizeString(e.NeededBytes), SizeString(e.FreeBytes))
}

// Is matches ErrSpace.
func (e *SpaceError) Is(target error) bool { return target == ErrSpace }

// Hint says how to get room.
func (e *SpaceError) Hint() string {
	return fmt.Sprintf("free %s there, or put the cache on a larger disk with HF_HUB_CACHE",
		SizeString(max(e.NeededBytes-e.FreeBytes, 1)))
}
