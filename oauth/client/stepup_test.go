package client_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

func TestStepUpReadsChallenges(t *testing.T) {
	hour := time.Hour
	for _, test := range []struct {
		name, challenge string
		status          int
		acr             []string
		maxAge          *time.Duration
		required        bool
	}{
		{"both", `Bearer error="insufficient_user_authentication", acr_values="myACR other", max_age="3600"`, 401, []string{"myACR", "other"}, &hour, true},
		{"DPoP", `DPoP error="insufficient_user_authentication", max_age=3600, algs="ES256"`, 401, nil, &hour, true},
		{"among others", `Basic realm="x", Bearer error="insufficient_user_authentication", acr_values="myACR"`, 401, []string{"myACR"}, nil, true},
		{"neither", `Bearer error="insufficient_user_authentication"`, 401, nil, nil, true},
		{"another error", `Bearer error="invalid_token", acr_values="myACR"`, 401, nil, nil, false},
		{"no challenge", ``, 401, nil, nil, false},
		{"another status", `Bearer error="insufficient_user_authentication"`, 200, nil, nil, false},
		{"a negative max_age", `Bearer error="insufficient_user_authentication", max_age="-1"`, 401, nil, nil, true},
		{"a huge max_age", `Bearer error="insufficient_user_authentication", max_age="99999999999999999999"`, 401, nil, nil, true},
		{"too long", `Bearer error="insufficient_user_authentication", acr_values="` + strings.Repeat("a", 513) + `"`, 401, nil, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := &http.Response{StatusCode: test.status, Header: http.Header{"Www-Authenticate": {test.challenge}}}
			options, required := client.StepUp(response)
			if required != test.required || !slices.Equal(options.ACRValues, test.acr) {
				t.Errorf("%v %v", required, options.ACRValues)
			}
			if (options.MaxAge == nil) != (test.maxAge == nil) || test.maxAge != nil && *options.MaxAge != *test.maxAge {
				t.Errorf("max_age %v", options.MaxAge)
			}
		})
	}
}
