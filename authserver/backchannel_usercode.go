package authserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
)

// User codes (CIBA Core, section 7.1): a user sets a secret, and a client that is registered for user
// codes can send them requests only with it.

// wrongUserCodesOfClient bounds how often one client can send a wrong code for one user. Other clients
// have budgets of their own, so none can use up another's.
var wrongUserCodesOfClient = ratelimit.Limit{Burst: 10, Every: 10 * time.Minute}

var (
	ruleUserCodeExpected = rule{
		must:    "only a client with backchannel_user_code_parameter sends user_code",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "this client is not registered for user codes",
		fix:  "set backchannel_user_code_parameter, or leave user_code out",
	}
	ruleUserCodeSent = rule{
		must:    "the request has a user_code if the user has set one",
		section: "CIBA Core, section 13", code: oauth.MissingUserCode,
		says: "user_code is missing",
		fix:  "ask the user for the code that they have set on their account page",
	}
	ruleUserCodeCorrect = rule{
		must:    "user_code is the code that the user has set",
		section: "CIBA Core, section 13", code: oauth.InvalidUserCode,
		says: "user_code is not the code of this user",
		fix:  "ask the user again; leave user_code out if the user has set none",
	}
	ruleUserCodePace = rule{
		must:    "the client has not sent too many wrong codes for this user",
		section: "CIBA Core, section 14", code: oauth.TemporarilyUnavailable,
		says: "too many wrong codes for this user; try again later",
		fix:  "wait as long as Retry-After says",
	}
	ruleUserCodeBusy = rule{
		must:    "the server can check the code now",
		section: "Valetkey", code: oauth.TemporarilyUnavailable,
		says: "the server is busy; try again",
		fix:  "wait as long as Retry-After says",
	}
)

// checkUserCode checks the user_code of a request. A client that registered itself must always send
// one: otherwise, the error would tell it whether there is such a user.
func (c *call) checkUserCode(cl *client, hint hintedUser) error {
	code := c.params.get("user_code")
	if err := c.must(cl.BackchannelUserCodeParameter || code == "", &ruleUserCodeExpected); err != nil || !cl.BackchannelUserCodeParameter {
		return err
	}
	if code == "" {
		set, _, err := c.verifyUserCode(cl, hint, "")
		if err != nil {
			return err
		}
		return c.must(!set && cl.Registration == nil, &ruleUserCodeSent)
	}
	// Counted before the code is checked, so that parallel requests cannot all pass.
	key := ratelimit.NewKey(cl.ID, hint.family())
	c.s.limits.userCodesOfClient.Load(c.r.Context(), c.now, key)
	if wait := c.s.limits.userCodesOfClient.Take(c.now, key); wait > 0 {
		return c.tooMany(&ruleUserCodePace, wait, "wrong codes")
	}
	_, correct, err := c.verifyUserCode(cl, hint, code)
	if correct || err != nil {
		// Not Forget: a client that guesses must not get new attempts from the user's own calls.
		c.s.limits.userCodesOfClient.Undo(c.now, key)
	}
	if err != nil {
		return err
	}
	return c.must(correct, &ruleUserCodeCorrect)
}

func (c *call) verifyUserCode(cl *client, hint hintedUser, code string) (set, correct bool, err error) {
	set, correct, err = c.s.config.Users.CheckUserCode(c.r.Context(), hint.subject, cl.ID, code)
	if later, ok := errors.AsType[*TryLaterError](err); ok {
		return false, false, c.tooMany(&ruleUserCodeBusy, later.After, "")
	}
	if err != nil {
		return false, false, fmt.Errorf("check a user code: %w", err)
	}
	return set, correct, nil
}

// UserCodes reports whether a client may send user codes, so that it makes sense for users to set one.
func (s *Server) UserCodes(ctx context.Context) (bool, error) {
	current, err := s.catalogue(ctx)
	if err != nil {
		return false, err
	}
	return current.clientNeeds.userCodes, nil
}
