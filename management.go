package valetkey

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage"
)

// Management returns the management API.
func (s *Server) Management() *manage.API { return s.management }

// onManagementListener is the key of the context of requests to management.listen.
type onManagementListener struct{}

// ServeManagement is like Serve, for the listener of management.listen, which serves the management
// API and nothing else.
func (s *Server) ServeManagement(ctx context.Context, listener net.Listener) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.management.Handles(r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		r = r.WithContext(authserver.WithAPIHost(context.WithValue(r.Context(), onManagementListener{}, true), r.Host))
		r.Host = s.host // the address is the operator's choice, and requests have tokens, not cookies
		s.ServeHTTP(w, r)
	})
	if s.config.TLS == nil {
		return s.serveHandler(ctx, listener, handler)
	}
	settings, err := s.tlsConfig("certificate of management", s.config.TLS)
	if err != nil {
		return err
	}
	return s.serveHandler(ctx, tls.NewListener(listener, settings), handler)
}

// servesManagement reports whether a request is for the management API, and has arrived where it is
// served.
func (s *Server) servesManagement(r *http.Request) bool {
	return s.management.Handles(r.URL.Path) && (s.config.Management.Listen == "" || r.Context().Value(onManagementListener{}) != nil)
}
