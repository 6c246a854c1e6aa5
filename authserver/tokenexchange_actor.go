package authserver

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// maxActors bounds how many have acted, one for the other.
const maxActors = 5

// The claims of RFC 8693, sections 4.1 and 4.4.
const (
	claimActor  = "act"
	claimMayAct = "may_act"
)

// actor is who acts for the subject of a token, or may. Claims that do not say who that is
// mean nothing there (RFC 8693, section 4.1).
type actor struct {
	Issuer   string `json:"iss,omitempty"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	// Actor is who acted before.
	Actor *actor `json:"act,omitempty"`
}

// readActor reads an act or may_act claim; nil if there is none.
func readActor(claim any) (*actor, error) {
	if claim == nil {
		return nil, nil
	}
	document, err := json.Marshal(claim)
	if err != nil {
		return nil, fmt.Errorf("encode actor: %w", err)
	}
	var a actor
	if err := jose.ParseJSON(document, &a); err != nil {
		return nil, fmt.Errorf("read actor: %w", err)
	}
	for at := &a; at != nil; at = at.Actor {
		if at.Subject == "" && at.ClientID == "" {
			return nil, errors.New("read actor: it has neither sub nor client_id")
		}
	}
	return &a, nil
}

// length is how many actors there are, one after the other.
func (a *actor) length() int {
	n := 0
	for ; a != nil; a = a.Actor {
		n++
	}
	return n
}

// is reports whether every member that a may_act claim has is that of the acting party.
func (a *actor) is(party actor) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(a.Issuer, party.Issuer) && same(a.Subject, party.Subject) && same(a.ClientID, party.ClientID)
}

var (
	ruleActorTokenType = rule{
		must:    "actor_token and actor_token_type come together",
		section: "RFC 8693, section 2.1", code: oauth.InvalidRequest,
		says: "actor_token and actor_token_type must be sent together, or neither",
		fix:  "send actor_token_type with an actor_token, and only then",
	}
	ruleActorOwn = rule{
		must:    "the actor token is its subject's own: nobody acts with it",
		section: "RFC 8693, section 4.1", code: oauth.InvalidRequest,
		says: "the actor_token is one that somebody acts with for its subject",
		fix:  "send a token of the actor's own",
	}
	ruleMayAct = rule{
		must:    "who acts is whom the subject token's may_act names",
		section: "RFC 8693, section 4.4", code: oauth.InvalidRequest,
		says: "the subject_token names another party that may act for its subject",
		fix:  "send the actor_token of the party in may_act",
	}
	ruleActors = rule{
		must:    "no more than 5 parties act, one for the other",
		section: "RFC 8693, section 4.1", code: oauth.InvalidRequest,
		says: "too many parties act for the subject, one for the other",
		fix:  "exchange a token that came a shorter way",
	}
)

// actorFor returns the act claim of a new token: who acts now, and who did before. Without
// an actor token those who acted before stay.
func (c *call) actorFor(subject, acting *presentedToken) (*actor, error) {
	party := actor{Issuer: c.s.config.Issuer, Subject: clientSubject(c.client.ID), ClientID: c.client.ID}
	if acting != nil {
		if err := c.must(acting.act == nil, &ruleActorOwn); err != nil {
			return nil, err
		}
		party = acting.party()
	}
	if subject.mayAct != nil {
		if !subject.mayAct.is(party) {
			return nil, c.refuse(&ruleMayAct, "may_act: "+subject.mayAct.Subject+" "+subject.mayAct.Issuer+"; acting: "+party.Subject)
		}
		_ = c.must(true, &ruleMayAct)
	}
	if acting == nil {
		return subject.act, c.must(subject.act.length() <= maxActors, &ruleActors)
	}
	act := &actor{Subject: c.subjectSeen(acting), Actor: subject.act}
	if acting.issuer != c.s.config.Issuer {
		act.Issuer = acting.issuer
	}
	return act, c.must(act.length() <= maxActors, &ruleActors)
}

// subjectSeen is the sub by which the client that asks knows the subject of a token.
func (c *call) subjectSeen(t *presentedToken) string {
	if t.person != "" {
		return c.s.subjectFor(c.client, t.person)
	}
	return t.subject
}
