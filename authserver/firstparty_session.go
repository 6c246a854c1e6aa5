package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

const prefixAuthSession = "vk_as_"

// authSessionData is what is stored. Nothing in it speaks of a person: an auth_session that
// was stolen saves the thief no password.
type authSessionData struct {
	ClientID string `json:"c"`
	Query    string `json:"q"` // the request as it came, verified anew at each step
	Began    int64  `json:"b"` // Unix milliseconds
	Failed   int    `json:"f,omitempty"`
}

type authSession struct {
	authSessionData
	key storage.Key
}

var (
	ruleAuthSession = rule{
		must:    "auth_session is the last one that the client was given, half an hour old at most, and was not used before",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.InvalidSession,
		says: "the auth_session is invalid, expired, or was used before",
		fix:  "begin anew, without an auth_session",
	}
	ruleAuthSessionRequest = rule{
		must:    "parameters that are sent again with an auth_session are those that it began with",
		section: "draft-ietf-oauth-first-party-apps, section 5.3.1", code: oauth.InvalidRequest,
		says: "a parameter differs from the request that the auth_session began with",
		fix:  "send the auth_session with username and password alone, or begin anew without it",
	}
)

// isChallengeParam reports whether a parameter is none of the authorization request.
func isChallengeParam(name string) bool {
	switch name {
	case "client_id", "client_secret", "client_assertion", "client_assertion_type", "auth_session", "username", "password":
		return true
	}
	return false
}

// authorizationParams returns what of c.params is the authorization request, and nothing
// that is secret.
func (c *call) authorizationParams() params {
	p := params{{"client_id", c.client.ID}}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) {
			p = append(p, sent)
		}
	}
	return p
}

// authSession finds the one that the request names, nil if it names none. A public client
// need not say who it is then (section 5.1).
func (c *call) authSession() (*authSession, error) {
	value := c.params.get("auth_session")
	if value == "" {
		return nil, nil
	}
	if !isSecret(prefixAuthSession, value) {
		return nil, c.refuse(&ruleAuthSession, "it has not the form of one that this server issues")
	}
	session := &authSession{key: secretKey(ticketkind.AuthSession, prefixAuthSession, value)}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, session.key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, c.refuse(&ruleAuthSession, "expired, used before, or never issued")
	}
	if err != nil {
		return nil, fmt.Errorf("look up auth_session: %w", err)
	}
	if err := json.Unmarshal(ticket.Data, &session.authSessionData); err != nil {
		return nil, fmt.Errorf("read auth_session: %w", err)
	}
	if !c.params.has("client_id") && !presentsBasic(c) && !presentsAssertion(c) {
		c.params = append(c.params, param{"client_id", session.ClientID})
	}
	return session, nil
}

// resumeChallenge puts the request of a session in the place of what was sent with it.
func (c *call) resumeChallenge(i *interaction, session *authSession) error {
	if session.ClientID != c.client.ID {
		return c.refuse(&ruleAuthSession, "it was given to another client")
	}
	began, err := c.parseParams(session.Query)
	if err != nil {
		return err
	}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) && !slices.Equal(c.params.all(sent.name), began.all(sent.name)) {
			return c.refuse(&ruleAuthSessionRequest, sent.name)
		}
	}
	c.params = began
	i.began = time.UnixMilli(session.Began)
	i.challenge.session, i.challenge.failed = session.key, session.Failed
	return c.must(true, &ruleAuthSession)
}

// askAgain refuses for now, with a new auth_session in place of the present one: each is
// good for one attempt, so that they are counted whoever sends them at once.
func (c *call) askAgain(i *interaction, refusal error) error {
	if i.challenge.failed >= maxChallengeAttempts {
		if i.challenge.session.Kind != "" {
			if err := c.s.config.Store.Delete(c.r.Context(), i.challenge.session); err != nil {
				return fmt.Errorf("end auth_session: %w", err)
			}
		}
		return c.must(false, &ruleChallengeAttempts)
	}
	data, err := json.Marshal(authSessionData{
		ClientID: c.client.ID, Query: i.params.encode(), Began: i.began.UnixMilli(), Failed: i.challenge.failed,
	})
	if err != nil {
		return fmt.Errorf("encode auth_session: %w", err)
	}
	value := newSecret(prefixAuthSession, c.now)
	err = c.endAuthSession(i, storage.Ticket{
		Key: secretKey(ticketkind.AuthSession, prefixAuthSession, value), Data: data, Expires: i.began.Add(c.s.lifetimes.Interaction),
	})
	if err != nil {
		return err
	}
	oauth.AsError(refusal).AuthSession = value
	return refusal
}
