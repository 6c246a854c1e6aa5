package breachedapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/outgoing"
)

func startService(t *testing.T, handle http.HandlerFunc) *Service {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	client := outgoing.New(outgoing.Policy{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	return &Service{URL: server.URL + "/range/", Client: client}
}

// SHA-1("password") is 5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8.
func TestService(t *testing.T) {
	s := startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/range/5BAA6" || r.URL.RawQuery != "" || r.Header.Get("Add-Padding") != "true" || r.Method != "GET" {
			t.Errorf("the request is %s %s with %v", r.Method, r.URL, r.Header)
		}
		_, _ = io.WriteString(w, "003D68EB55068C33ACE09247EE4C639306B:3\r\n1E4C9B93F3F0682250B6CF8331B7EE68FD8:10434004\r\nFFFF0000000000000000000000000000000:0\r\n")
	})
	if found, err := s.Contains(t.Context(), "password"); err != nil || !found {
		t.Errorf("Contains = %v, %v, want true", found, err)
	}
}

func TestServiceWithPadding(t *testing.T) {
	s := startService(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "1E4C9B93F3F0682250B6CF8331B7EE68FD8:0\r\n")
	})
	if found, err := s.Contains(t.Context(), "password"); err != nil || found {
		t.Errorf("Contains = %v, %v, want false: the line is padding", found, err)
	}
}

func TestServiceFailures(t *testing.T) {
	stop := make(chan struct{})
	for name, handle := range map[string]http.HandlerFunc{
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", maxRange+1))
		},
		"no response": func(w http.ResponseWriter, r *http.Request) { <-stop },
	} {
		s := startService(t, handle)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if found, err := s.Contains(ctx, "password"); err == nil || found || ctx.Err() != nil {
			t.Errorf("%s: Contains = %v, %v", name, found, err)
		}
		cancel()
	}
	close(stop)
}
