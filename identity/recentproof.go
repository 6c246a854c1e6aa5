package identity

import "time"

// recentProof is how long a proof permits changes of the account.
const recentProof = 5 * time.Minute

// RecentProofSince returns the time since which the proofs of a session must reach
// RecentProofClass.
func RecentProofSince(now time.Time) time.Time { return now.Add(-recentProof) }

// RecentProofClass is what a user must have reached a short time ago to change how they sign in: two
// factors if the account can do that. It is not more, because those who have lost a passkey must be
// able to remove it with another second factor.
func (u *User) RecentProofClass() Class {
	if u.Reachable().Includes(ClassTwoFactors) {
		return ClassTwoFactors
	}
	return ClassOneFactor
}

// RecentlyProved reports whether the user of a session has proved a short time ago what changes of the
// account require.
func (s *Session) RecentlyProved(now time.Time) bool {
	return s.ProvedSince(RecentProofSince(now))
}

// ProvedSince reports whether the user of a session has proved since a time what changes of the account
// require.
func (s *Session) ProvedSince(since time.Time) bool {
	return Reached(Active(Since(s.Proofs, since))).Includes(s.User.RecentProofClass())
}
