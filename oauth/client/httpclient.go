package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// restricted returns a copy of given that follows no redirects, keeps no cookies and has a
// timeout. A redirect from the token endpoint would send the client's secret or a code to
// another URL (RFC 9700, section 4.12).
func restricted(given *http.Client) *http.Client {
	var c http.Client
	if given != nil {
		c = *given
	}
	if c.Timeout <= 0 || c.Timeout > requestTimeout {
		c.Timeout = requestTimeout
	}
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// response is a response with its complete body.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request and reads the response; a body longer than limit is an error.
func (c *Client) send(req *http.Request, limit int64) (*response, error) {
	setInteractionID(req, c.config.InteractionID)
	return send(c.http, req, limit)
}

// setInteractionID adds the x-fapi-interaction-id of a request, unless it has one.
func setInteractionID(req *http.Request, interactionID func(context.Context) string) {
	if interactionID == nil || req.Header.Get("X-Fapi-Interaction-Id") != "" {
		return
	}
	if id := interactionID(req.Context()); id != "" {
		req.Header.Set("X-Fapi-Interaction-Id", id)
	}
}

func send(h *http.Client, req *http.Request, limit int64) (*response, error) {
	where := req.URL.Redacted()
	resp, err := h.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: request to the provider: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("client: read the response of %s: %w", where, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: %s sent more than %d bytes", ErrResponse, where, limit)
	}
	if resp.StatusCode/100 == 3 {
		return nil, fmt.Errorf("%w: %s responded with a redirect (status %d), which is not followed", ErrResponse, where, resp.StatusCode)
	}
	return &response{resp.StatusCode, resp.Header, body}, nil
}

// post sends a form with client authentication.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values) (*response, error) {
	return c.postBound(ctx, endpoint, form, nil)
}

func (c *Client) newPost(ctx context.Context, endpoint string, form url.Values) (*http.Request, error) {
	header, err := c.authenticate(ctx, form)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint(endpoint), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	// A code, refresh token or assertion can be used once: net/http must not send it again
	// on another connection.
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	if c.instance != nil {
		if err := c.attest(ctx, req.Header); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// retryAfter parses a Retry-After header (RFC 9110, section 10.2.3), with a maximum of one
// hour.
func retryAfter(header http.Header) time.Duration {
	field := header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(field); err == nil {
		wait = time.Duration(min(max(seconds, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), time.Hour)
}
