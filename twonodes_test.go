package valetkey

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// The other node has the user in memory. What was issued to the user ends at once all the same,
// because it was deleted.
func TestAC09_ADisabledUserIsRefusedOnEveryNodeAtOnce(t *testing.T) {
	database := pgtest.Database(t)
	node, other := endedServer(t, database), endedServer(t, database)
	ada, err := node.accounts.FindAny(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := node.accounts.StartSession(t.Context(), time.Now(), ada, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tokens := tokensOfAda(t, node)
	wantWorks(t, other, "before", tokens, true)
	if _, err := other.accounts.SignedIn(t.Context(), time.Now(), secret); err != nil {
		t.Fatal(err)
	}
	setDisabled(t, node, ada.ID, true)
	wantWorks(t, other, "disabled", tokens, false)
	if _, err := other.accounts.SignedIn(t.Context(), time.Now(), secret); err == nil {
		t.Error("the session is active")
	}
	if status, response := post(t, other, "app", "/token", url.Values{"grant_type": {"password"}, "username": {"ada"}, "password": {endedPassword}}); status == http.StatusOK {
		t.Errorf("the password is accepted: %v", response)
	}
}
