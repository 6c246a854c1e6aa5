package valetkey

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
)

// ServeMutualTLS is like Serve, for the listener of mutual_tls.listen: it requests a certificate of
// each client. A client without one is served too. The TLS handshake verifies that the client has
// the private key. Whether the certificate authenticates the client is decided for each request,
// because that depends on the client's registration (RFC 8705, section 6.1).
func (s *Server) ServeMutualTLS(ctx context.Context, listener net.Listener) error {
	files := s.config.MutualTLS.Certificate(s.config.TLS)
	if files == nil {
		return errors.New("mutual_tls.listen needs a certificate: set tls, or mutual_tls.tls")
	}
	settings, err := s.tlsConfig("certificate of mutual_tls", files)
	if err != nil {
		return err
	}
	settings.ClientAuth = tls.RequestClientCert
	return s.serve(ctx, tls.NewListener(listener, settings))
}

// forMutualTLS reports whether a request is for an endpoint at mutual_tls.host. There are no pages
// at that host: a browser would ask the user for a certificate.
func (s *Server) forMutualTLS(r *http.Request) bool {
	m := s.config.MutualTLS
	return m != nil && m.Host != "" && sameHost(r.Host, m.Host) && s.engine.HandlesMutualTLS(r.URL.Path)
}
