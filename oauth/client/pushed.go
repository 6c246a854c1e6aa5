package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

// pushes reports whether authorization requests are pushed (RFC 9126, section 5).
func (c *Client) pushes() bool {
	return c.config.PushAuthorizationRequests || c.metadata.RequirePushedAuthorizationRequests
}

// pushed pushes an authorization request, and returns the parameters for the browser. Parameters of
// the endpoint's own query stay in the URL.
func (c *Client) pushed(ctx context.Context, request, endpoint url.Values) (url.Values, error) {
	if c.metadata.PushedAuthorizationRequestEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no pushed_authorization_request_endpoint", ErrUnsupported)
	}
	form := url.Values{}
	for name, values := range request {
		if !endpoint.Has(name) {
			form[name] = values
		}
	}
	got, err := c.post(ctx, c.metadata.PushedAuthorizationRequestEndpoint, form)
	if err != nil {
		return nil, fmt.Errorf("push the authorization request: %w", err)
	}
	if got.status != http.StatusCreated && got.status != http.StatusOK {
		return nil, fmt.Errorf("push the authorization request: %w", parseError(got))
	}
	var response oauth.PushedAuthorizationResponse
	if err := json.Unmarshal(got.body, &response); err != nil || !printable(response.RequestURI) {
		return nil, fmt.Errorf("%w: the pushed authorization request endpoint sent no request_uri", ErrResponse)
	}
	endpoint.Set("client_id", c.config.ClientID)
	endpoint.Set("request_uri", response.RequestURI)
	return endpoint, nil
}
