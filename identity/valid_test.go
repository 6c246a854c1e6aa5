package identity

import (
	"testing"
	"time"
)

// Tokens from before the end are not valid, except those of a kept session.
func TestAC09_TokensFromBeforeTheEndAreNotValid(t *testing.T) {
	u := &User{EndedAt: start, Kept: []string{"kept"}}
	for _, c := range []struct {
		ms      int64
		session string
		want    bool
	}{{-1, "", false}, {-1, "other", false}, {-1, "kept", true}, {0, "", true}, {1, "other", true}} {
		if got := u.Valid(start.Add(time.Duration(c.ms)*time.Millisecond), c.session); got != c.want {
			t.Errorf("%d ms after the end, in session %q: %v", c.ms, c.session, got)
		}
	}
	if !(&User{}).Valid(start) {
		t.Error("nothing ended, and it is not valid")
	}
}
