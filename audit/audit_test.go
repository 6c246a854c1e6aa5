package audit

import (
	"context"
	"testing"
)

// TestEachLayerAddsWhatItKnows: a sign-in keeps the address that the middleware found, and a
// new actor never keeps the ID of another one.
func TestEachLayerAddsWhatItKnows(t *testing.T) {
	ctx := WithActor(context.Background(), Actor{Kind: KindUnknown, Address: "192.0.2.1", Reference: "r1"})
	ctx = WithActor(ctx, Actor{Kind: KindUser, ID: "u1", Name: "alice"})
	ctx = WithActor(ctx, Actor{ClientID: "app"})
	want := Actor{Kind: KindUser, ID: "u1", Name: "alice", ClientID: "app", Address: "192.0.2.1", Reference: "r1"}
	if got := ActorOf(ctx); got != want {
		t.Errorf("actor is %+v, want %+v", got, want)
	}
	ctx = WithActor(ctx, Actor{Kind: KindClient, ID: "app"})
	if got := ActorOf(ctx); got.Name != "" || got.ID != "app" || got.Address != "192.0.2.1" {
		t.Errorf("a client keeps members of a user: %+v", got)
	}
	if got := ActorOf(context.Background()); got != (Actor{}) {
		t.Errorf("a context without an actor has %+v", got)
	}
}
