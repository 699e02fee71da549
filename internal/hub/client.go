package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// client talks to one endpoint about one model. It is safe for concurrent use.
type client struct {
	http     *http.Client
	owned    *http.Transport // the transport to close after use; nil if the caller brought one
	env      Env
	model    string
	opt      Options
	answered atomic.Bool // the server has answered at least once, so the machine is not offline
}

func newClient(env Env, model string, opt Options) (*client, error) {
	base, err := url.Parse(env.endpoint())
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, withHint(fmt.Errorf("endpoint %q: not an http or https URL", env.endpoint()),
			`set HF_ENDPOINT to a URL such as "https://huggingface.co", or unset it`)
	}
	c := &client{env: env, model: model, opt: opt}
	transport := opt.Transport
	if transport == nil {
		// Plain HTTP/1.1: each file has a connection, and a flow-control window, of its own.
		c.owned = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: opt.StallTimeout}).DialContext,
			TLSHandshakeTimeout: opt.StallTimeout,
			MaxIdleConnsPerHost: opt.Parallel,
			IdleConnTimeout:     30 * time.Second,
			ReadBufferSize:      64 << 10,
		}
		transport = c.owned
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return c, nil
}

// closeIdle ends the connections that wait for another request.
func (c *client) closeIdle() {
	if c.owned != nil {
		c.owned.CloseIdleConnections()
	}
}

var errRedirect = errors.New("redirect refused")

// checkRedirect follows a redirect, without the token as soon as one hop is not the first hop's own scheme, host and
// port. net/http would keep the token for another port and for subdomains.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) >= 10 {
		return fmt.Errorf("%w: more than 10 in a row", errRedirect)
	}
	if s := next.URL.Scheme; s != "https" && (s != "http" || first.Scheme == "https") {
		return fmt.Errorf("%w: from %s to %s", errRedirect, first.Scheme, printable(s, 20))
	}
	for _, hop := range append(via[1:len(via):len(via)], next) {
		if hop.URL.Scheme != first.Scheme || hop.URL.Host != first.Host {
			next.Header.Del("Authorization")
		}
	}
	return nil
}

// get sends a GET and returns the response to a 200 or 206, whose body the caller closes. Another status is a
// *StatusError, no answer a *TransferError.
func (c *client) get(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	request.Header = header
	request.Header.Set("User-Agent", "quire")
	// Sizes and offsets are those of the file, so it must travel as it is.
	request.Header.Set("Accept-Encoding", "identity")
	if c.env.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.env.Token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.broken(ctx, request.URL, err)
	}
	c.answered.Store(true)
	switch encoding := response.Header.Get("Content-Encoding"); {
	case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPartialContent:
		err = c.statusError(response)
	case encoding != "" && encoding != "identity":
		err = withHint(fmt.Errorf("%s: content encoding %q, which was not asked for", plainURL(response.Request.URL), encoding),
			"a proxy changes what the server sends: check HF_ENDPOINT and HTTPS_PROXY")
	}
	if err != nil {
		response.Body.Close()
		return nil, err
	}
	return response, nil
}

// broken turns a failed exchange into the error that says whose failure it is: the caller's cancellation, or the
// network's.
func (c *client) broken(ctx context.Context, address *url.URL, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if !errors.Is(cause, ErrStalled) {
			return cause
		}
		err = fmt.Errorf("%w (%v)", ErrStalled, c.opt.StallTimeout)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its own text repeats the URL with the query
	}
	return &TransferError{URL: plainURL(address), Err: err}
}

func (c *client) statusError(response *http.Response) *StatusError {
	e := &StatusError{
		StatusCode: response.StatusCode,
		URL:        plainURL(response.Request.URL),
		Code:       printable(response.Header.Get("X-Error-Code"), 40),
		Message:    printable(response.Header.Get("X-Error-Message"), 200),
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), c.opt.Clock.Now()),
		HadToken:   c.env.Token != "",
		page:       c.env.endpoint() + "/" + c.model,
	}
	if e.Message == "" && !strings.Contains(response.Header.Get("Content-Type"), "html") {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		e.Message = printable(string(text), 200)
	}
	return e
}

// retryAfter reads the header's two forms, seconds and a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// plainURL leaves out the query, which may hold a signature, and a user's name and password.
func plainURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// escapePath escapes every part of a slash-separated path.
func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}
