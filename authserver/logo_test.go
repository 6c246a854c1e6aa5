package authserver_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage/record"
)

// A logo_uri cannot be used to send requests into the server's network.
func TestDC07_LogosInPrivateNetworksAreNotFetched(t *testing.T) {
	site := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	defer site.Close()
	s := newScene(t, scriptSetup{})
	for _, uri := range []string{site.URL, "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "data:image/png;base64,AAAA", "https://u:p@example.com/"} {
		if _, _, err := s.server.Logo(t.Context(), &record.Client{}, uri); !errors.Is(err, authserver.ErrNoLogo) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
