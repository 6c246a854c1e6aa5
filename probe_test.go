package valetkey_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/probe"
)

// What the server tells about itself is for those who have the master key.
func TestOnlyTheMasterKeyGetsAnAnswer(t *testing.T) {
	config := configuration.Configuration{Issuer: "https://login.example.com", Database: "sqlite:" + t.TempDir() + "/v.db"}
	server, err := valetkey.New(valetkey.Config{Configuration: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	secret, err := database.MasterSecret(&config)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := database.Derive(secret, probe.Purpose)
	if err != nil {
		t.Fatal(err)
	}
	send := func(host, question string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(http.MethodGet, "https://"+host+"/nothing", nil)
		if question != "" {
			request.Header.Set(probe.Header, question)
		}
		recorder := httptest.NewRecorder()
		server.ServeHTTP(recorder, request)
		return recorder
	}
	for _, host := range []string{"login.example.com", "other.example.com"} {
		answer := send(host, probe.Key(derived).Seal(probe.Question{Time: time.Now(), Token: true}))
		if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), `"host":"`+host+`"`) || !strings.Contains(answer.Body.String(), `"token":"ey`) {
			t.Errorf("the answer for %s: %d %s", host, answer.Code, answer.Body)
		}
		without := send(host, "")
		for name, question := range map[string]string{
			"another key": probe.Key("another").Seal(probe.Question{Time: time.Now()}),
			"an old one":  probe.Key(derived).Seal(probe.Question{Time: time.Now().Add(-time.Hour)}),
			"nonsense":    "answer",
		} {
			if got := send(host, question); got.Code != without.Code || got.Body.String() != without.Body.String() || got.Header().Get(probe.Header) != "" {
				t.Errorf("%s at %s: %d %s", name, host, got.Code, got.Body)
			}
		}
	}
}
