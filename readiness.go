package valetkey

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// readiness holds the details in the body of /readyz.
type readiness struct {
	mu      sync.Mutex
	details map[string][]string // by topic
}

// SetReadinessDetail sets the lines about a topic in the body of /readyz, for example about a
// configuration file that could not be applied. Without lines it removes the topic. The status
// code does not change.
//
// Anyone can read /readyz, so lines must be fixed text without names or values from files;
// those belong in the log.
func (s *Server) SetReadinessDetail(topic string, lines ...string) {
	s.readiness.mu.Lock()
	defer s.readiness.mu.Unlock()
	if len(lines) == 0 {
		delete(s.readiness.details, topic)
		return
	}
	if s.readiness.details == nil {
		s.readiness.details = map[string][]string{}
	}
	s.readiness.details[topic] = slices.Clone(lines)
}

// lines returns the details by topic, one line each.
func (r *readiness) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, topic := range slices.Sorted(maps.Keys(r.details)) {
		for _, line := range r.details[topic] {
			lines = append(lines, topic+": "+line)
		}
	}
	return lines
}

// readinessLines returns the details for /readyz.
func (s *Server) readinessLines() []string {
	lines := s.readiness.lines()
	if len(s.engine.FailingKeys()) > 0 {
		// The status stays 200: nodes share a signer, and most requests need no signature.
		lines = append(lines, "signing: the external signer fails; no tokens can be issued with its keys")
	}
	return lines
}

func (s *Server) healthy(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}

// readyRetryAfter is when to check again, in seconds.
const readyRetryAfter = "5"

// ready reports whether requests should be sent to this node: the database responds and the
// server is not shutting down. The details follow, one per line.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := s.isReady(r.Context()); err != nil {
		w.Header().Set("Retry-After", readyRetryAfter)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	for _, line := range s.readinessLines() {
		fmt.Fprintln(w, line)
	}
}
