package authserver

import "net/http"

// Server is the engine of one issuer; safe for concurrent use.
type Server struct {
	config Config
}

// New returns an engine. It fails on a configuration that could not be served.
func New(config Config) (*Server, error) { return nil, nil }

// ServeHTTP answers the protocol endpoints.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Handles reports whether path is one of the engine's endpoints.
func (s *Server) Handles(path string) bool { return false }
