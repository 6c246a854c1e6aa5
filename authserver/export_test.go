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

// ShiftCode returns a sealed code as a node would have issued it whose clock is ahead by a time.
func (s *Server) ShiftCode(code string, ahead time.Duration) (string, error) {
	a, err := s.openCode(code)
	if err != nil {
		return "", err
	}
	for i, t := range sealedTimes(&a) {
		*t += ahead.Milliseconds() / sealedUnits[i]
	}
	return s.sealCode(a)
}

// MaxSealedCode is the maximum length of a sealed code.
const MaxSealedCode = maxSealedCode
