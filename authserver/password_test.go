package authserver_test

import (
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
)

// checkPassword knows people by their passwords; "slow" has tried too often.
func checkPassword(passwords map[string]string) func(*http.Request, string, string) (*authserver.Authentication, error) {
	return func(_ *http.Request, username, password string) (*authserver.Authentication, error) {
		switch {
		case username == "slow":
			return nil, &authserver.TryLaterError{After: 30 * time.Second}
		case passwords[username] == "" || passwords[username] != password:
			return nil, authserver.ErrWrongPassword
		}
		return &authserver.Authentication{Subject: username, Time: time.Now(), ACR: "1", AMR: []string{"pwd"}}, nil
	}
}
