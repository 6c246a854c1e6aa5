package authserver

import "time"

// RevokeOfUser counts n access tokens for a user that a client revoked, for tests.
func (s *Server) RevokeOfUser(clientID, subject string, n int, expires time.Time) {
	for range n {
		s.endedOfClients.count(endedOwner{clientID, subject}, time.Now(), expires)
	}
}

// MaxEndedPerUser is how many access tokens for one user a client may revoke.
const MaxEndedPerUser = maxEndedPerUser
