package client_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sessiontest"
)

// Stores in databases keep sessions as JSON.
func TestSessionsCanBeKeptAsJSON(t *testing.T) {
	now := time.Now().Round(0).UTC()
	want := client.Session{
		ID: "id", Issuer: "https://op.example", Subject: "alice", SessionID: "sid",
		Tokens: &client.Tokens{AccessToken: "secret-token", TokenType: "Bearer", Issued: now, Identity: &client.IDToken{
			Issuer: "https://op.example", Subject: "alice", Audience: []string{"app"}, Expiry: now, IssuedAt: now, Claims: json.RawMessage(`{"sub":"alice"}`),
		}},
		UserInfo: &client.UserInfo{Subject: "alice", Claims: json.RawMessage(`{"sub":"alice","name":"Alice"}`)},
		Started:  now, Expires: now.Add(time.Hour),
	}
	document, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got client.Session
	if err := json.Unmarshal(document, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(client.Session{}, client.IDToken{})); diff != "" {
		t.Errorf("after a round trip (-want +got):\n%s", diff)
	}
	var claims struct{ Name string }
	if err := got.Decode(&claims); err != nil || claims.Name != "Alice" {
		t.Errorf("the name is %q (%v)", claims.Name, err)
	}
	got.UserInfo = nil
	if err := got.Decode(&claims); err != nil {
		t.Error(err)
	}
	if printed := fmt.Sprintf("%v %+v %#v %s", want, want, &want, want.LogValue()); strings.Contains(printed, "secret-token") {
		t.Errorf("printing shows %s", printed)
	}
}

func TestMemorySessions(t *testing.T) {
	sessiontest.Run(t, func(*testing.T) client.SessionStore { return client.NewMemorySessions(1000) })
}
