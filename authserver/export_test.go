package authserver

import "time"

// RevokeOfClient counts n access tokens that a client revoked, for tests.
func (s *Server) RevokeOfClient(clientID string, n int, expires time.Time) {
	for range n {
		s.endedOfClients.note(clientID, time.Now(), expires)
	}
}

// MaxEndedOfClient is what a client may revoke.
const MaxEndedOfClient = maxEndedOfClient
