package client_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// device returns a provider whose token endpoint responds to the polls with the given codes in
// turn. "" returns tokens, and "broken" is a response of a proxy.
func device(t *testing.T, responses ...oauth.ErrorCode) (c *client.Client, polls *[]time.Duration) {
	p := newProvider(t)
	began := time.Now()
	polls = &[]time.Duration{}
	p.metadata["device_authorization_endpoint"] = p.issuer + "/device_authorization"
	p.handlers["/device_authorization"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"device_code": "GmRhmhcxhwAzkoEqiMEg", "user_code": "WDJB-MJHT", "verification_uri": "https://example.com/device", "expires_in": 600,
		})
	}
	p.handlers["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		*polls = append(*polls, time.Since(began))
		response := responses[min(len(*polls), len(responses))-1]
		switch response {
		case "":
			writeJSON(w, http.StatusOK, map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 60})
		case "broken":
			http.Error(w, "Bad Gateway", http.StatusBadGateway)
		case oauth.TemporarilyUnavailable:
			w.Header().Set("Retry-After", "120")
			writeJSON(w, http.StatusTooManyRequests, map[string]any{"error": response})
		default:
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": response})
		}
	}
	return p.discover(t, func(config *client.Config) { config.Scopes = []string{"photos"} }), polls
}

func TestWaitForDevice(t *testing.T) {
	for _, test := range []struct {
		name      string
		responses []oauth.ErrorCode
		polls     []time.Duration
		code      oauth.ErrorCode
	}{
		{"until the user allows it", []oauth.ErrorCode{oauth.AuthorizationPending, oauth.AuthorizationPending, ""},
			[]time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second}, ""},
		{"longer after slow_down", []oauth.ErrorCode{oauth.AuthorizationPending, oauth.SlowDown, oauth.SlowDown, ""},
			[]time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 35 * time.Second}, ""},
		{"twice as long, when the provider cannot be reached", []oauth.ErrorCode{"broken", "broken", ""},
			[]time.Duration{5 * time.Second, 15 * time.Second, 35 * time.Second}, ""},
		{"for Retry-After", []oauth.ErrorCode{oauth.TemporarilyUnavailable, oauth.AuthorizationPending, ""},
			[]time.Duration{5 * time.Second, 125 * time.Second, 135 * time.Second}, ""},
		{"no longer after access_denied", []oauth.ErrorCode{oauth.AuthorizationPending, oauth.AccessDenied},
			[]time.Duration{5 * time.Second, 10 * time.Second}, oauth.AccessDenied},
		{"no longer after invalid_grant", []oauth.ErrorCode{oauth.InvalidGrant}, []time.Duration{5 * time.Second}, oauth.InvalidGrant},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, polls := device(t, test.responses...)
				d, err := c.DeviceAuthorization(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tokens, err := c.WaitForDevice(t.Context(), d)
				if diff := cmp.Diff(test.polls, *polls); diff != "" {
					t.Error(diff)
				}
				if test.code != "" && !errors.Is(err, &client.Error{Code: test.code}) || test.code == "" && (err != nil || tokens.AccessToken != "a") {
					t.Errorf("%v, %v", tokens, err)
				}
			})
		})
	}
}

func TestWaitForDeviceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := device(t, oauth.AuthorizationPending)
		d, err := c.DeviceAuthorization(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.WaitForDevice(t.Context(), d); !errors.Is(err, &client.Error{Code: oauth.ExpiredToken}) || time.Since(began) > 601*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		if _, err := c.WaitForDevice(ctx, d); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, &client.Error{Code: oauth.ExpiredToken}) {
			t.Error(err)
		}
	})
}

func TestInvalidDeviceAuthorizationResponses(t *testing.T) {
	for _, response := range []map[string]any{
		{}, {"device_code": "x", "user_code": "y", "verification_uri": "z"},
		{"device_code": "x", "user_code": "y", "verification_uri": "z", "expires_in": -1},
		{"device_code": "x", "user_code": "y", "verification_uri": "z", "expires_in": 600, "interval": -5},
	} {
		p := newProvider(t)
		p.metadata["device_authorization_endpoint"] = p.issuer + "/device_authorization"
		p.handlers["/device_authorization"] = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, response) }
		if _, err := p.discover(t, nil).DeviceAuthorization(t.Context()); !errors.Is(err, client.ErrResponse) {
			t.Errorf("%v: %v", response, err)
		}
	}
	if _, err := newProvider(t).discover(t, nil).DeviceAuthorization(t.Context()); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("without an endpoint: %v", err)
	}
}
