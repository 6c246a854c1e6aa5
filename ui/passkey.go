package ui

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

// The paths of passkeys.
const (
	passkeyOptionsPath = "/passkey/options"
	passkeyPath        = "/sign-in/passkey"
)

// passkeyView is what a page needs for its form for a passkey; nil if there is none. The script
// (assets/passkey.js) shows the form if the browser has passkeys.
type passkeyView struct {
	waiting
	// Options is the URL of the options for the browser.
	Options string
	Primary bool
	// Signals tell password managers about the user's passkeys; nil if there is nothing to tell.
	Signals *passkeySignals
}

// passkeys returns the form for a passkey for a page; nil if the issuer has no passkeys.
func (s *session) passkeys(waits waiting) *passkeyView {
	if s.config.Passkeys == nil {
		return nil
	}
	return &passkeyView{waiting: waits, Options: s.base + passkeyOptionsPath}
}

// passkeyBrowser returns the secret that challenges of this browser are bound to, and sets its cookie if
// the browser has none.
func (s *session) passkeyBrowser(w http.ResponseWriter, r *http.Request) string {
	secret := identity.PasskeyCookie(r, s.config.Issuer)
	if secret == "" {
		secret = identity.NewBrowserSecret()
		identity.SetPasskeyCookie(w, s.config.Issuer, secret)
	}
	return secret
}

// passkeyOptions answers the script with the options of a ceremony in JSON. Nothing is stored.
func (s *session) passkeyOptions(w http.ResponseWriter, r *http.Request) error {
	rp := s.config.Passkeys
	if rp == nil {
		return s.noOptions(w, http.StatusNotFound, "")
	}
	now := time.Now()
	c := passkey.Ceremony{Purpose: passkey.Purpose(r.PostForm.Get("for")), Browser: s.passkeyBrowser(w, r)}
	var options json.RawMessage
	var err error
	switch c.Purpose {
	case passkey.SignIn:
		options, err = rp.RequestOptions(now, c, nil)
	case passkey.Confirm:
		at, failed := s.signingIn(r)
		if failed != nil {
			return failed
		}
		if at == nil {
			return s.noOptions(w, http.StatusForbidden, "/sign-in"+waitingParams(r).query())
		}
		c.User = at.user.ID
		options, err = rp.RequestOptions(now, c, at.user.Passkeys())
	case passkey.SignUp:
		if !s.config.SignUp || s.config.NoPasswords {
			return s.noOptions(w, http.StatusNotFound, "")
		}
		may, tell, failed := s.mayAskForName(r)
		if failed != nil {
			return failed
		}
		if !may {
			return s.noOptions(w, http.StatusForbidden, "")
		}
		var v newPersonView
		if c.User, err = s.config.Accounts.NewPasskeyAccount(r.Context(), now, r.PostForm.Get("username"), s.config.RemoteAddr(r), tell); err != nil {
			a, known := v.refusal(err)
			if !known {
				return err
			}
			return s.writeJSON(w, a.status, map[string]string{"error": "refused", "message": s.language.Text(v.Alert)})
		}
		user := &identity.User{ID: c.User, Username: r.PostForm.Get("username")}
		options, err = rp.CreationOptions(now, c, user, person(user).Name, nil)
	case passkey.Create, passkey.Upgrade:
		if c.Purpose == passkey.Create && (s.who == nil || !s.who.RecentlyProved(now)) {
			return s.noOptions(w, http.StatusForbidden, passkeysPath)
		}
		if c.Purpose == passkey.Upgrade && !s.mayUpgrade(now) {
			return s.noOptions(w, http.StatusForbidden, "")
		}
		c.User = s.who.User.ID
		options, err = rp.CreationOptions(now, c, s.who.User, person(s.who.User).Name, s.who.User.Passkeys())
	default:
		return s.noOptions(w, http.StatusBadRequest, "")
	}
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, options)
}

// noOptions answers the script that there are no options. The browser goes to the path, if there is one.
func (s *session) noOptions(w http.ResponseWriter, status int, path string) error {
	answer := map[string]string{"error": "no_options"}
	if path != "" {
		answer["location"] = s.base + path
	}
	return s.writeJSON(w, status, answer)
}

func (u *UI) writeJSON(w http.ResponseWriter, status int, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode a response: %w", err)
	}
	u.setHeaders(w.Header(), "")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) // an error means that the browser has disconnected
	return nil
}

// passkeyRefusal is why a passkey was not accepted, as far as a page can say: nothing that helps
// somebody who does not have the passkey.
type passkeyRefusal struct {
	alert *messages.Text
	// unknown is set if the passkey was removed and the browser proved that it has it.
	unknown []byte
}

// usePasskey verifies the response of a browser, and that the challenge is used for the first time. user
// is nil at a sign-in; the response then says who it is. Exactly one of refused, user and error is set.
func (s *session) usePasskey(r *http.Request, c passkey.Ceremony, user *identity.User) (*identity.User, identity.ProvedMethod, *passkeyRefusal, error) {
	ctx, now, remote := r.Context(), time.Now(), s.config.RemoteAddr(r)
	none := identity.ProvedMethod{}
	refuse := func(user *identity.User, cause error, unknown []byte) (*identity.User, identity.ProvedMethod, *passkeyRefusal, error) {
		refused, ok := errors.AsType[*passkey.RefusedError](cause)
		if !ok {
			return nil, none, nil, cause
		}
		s.config.Accounts.PasskeyRefused(ctx, user, string(refused.Reason), remote)
		if refused.Reason == passkey.ReasonExpired || refused.Reason == passkey.ReasonReplayed {
			return nil, none, &passkeyRefusal{alert: text("alert.passkey-too-late")}, nil
		}
		return nil, none, &passkeyRefusal{alert: text("alert.passkey"), unknown: unknown}, nil
	}
	assertion, err := passkey.ParseAssertion([]byte(r.PostForm.Get("response")))
	if err != nil {
		return refuse(user, err, nil)
	}
	if user == nil {
		user, err = s.config.Accounts.AnyUser(ctx, assertion.User)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, none, nil, err
		}
	}
	var found *identity.Authenticator
	if user != nil {
		found = user.PasskeyByID(assertion.CredentialID)
	}
	if found == nil {
		unknown, err := s.provesRemoved(r, now, c, assertion)
		if err != nil {
			return nil, none, nil, err
		}
		return refuse(user, &passkey.RefusedError{Reason: passkey.ReasonUnknown}, unknown)
	}
	used, err := s.config.Passkeys.VerifyAssertion(now, c, assertion, user.ID, found.Passkey)
	if err == nil && !user.MaySignIn() {
		err = &passkey.RefusedError{Reason: passkey.ReasonInactive}
	}
	if err == nil {
		err = s.recordUse(r, now, user, found, used)
	}
	if err != nil {
		return refuse(user, err, nil)
	}
	return user, passkeyProof(now, found.ID, found.Passkey, used.UserVerified), nil, nil
}

// passkeyProof returns the proof by a passkey. Its key is protected by the hardware of one device, or by
// software that copies it (RFC 8176, section 2).
func passkeyProof(now time.Time, id string, p *identity.Passkey, verified bool) identity.ProvedMethod {
	amr := []string{"swk", "user"}
	if !p.BackupEligible {
		amr[0] = "hwk"
	}
	return identity.ProvedMethod{Method: identity.MethodPasskey, At: now, AMR: amr, Authenticator: id, UserVerified: verified}
}

// recordUse stores that a challenge was used, and what has changed about the passkey.
func (s *session) recordUse(r *http.Request, now time.Time, user *identity.User, found *identity.Authenticator, used *passkey.Used) error {
	err := s.config.Accounts.SpendPasskeyChallenge(r.Context(), now, used.Challenge, used.ChallengeExpires)
	if err == nil {
		err = s.config.Accounts.UsePasskey(r.Context(), now, user, found.ID, used.SignCount, used.BackedUp)
	}
	switch {
	case errors.Is(err, identity.ErrPasskeyReplayed):
		return &passkey.RefusedError{Reason: passkey.ReasonReplayed}
	case errors.Is(err, identity.ErrSignCount):
		return &passkey.RefusedError{Reason: passkey.ReasonSignCount}
	case errors.Is(err, storage.ErrNotFound): // removed, or the user disabled, at this moment
		return &passkey.RefusedError{Reason: passkey.ReasonUnknown}
	}
	return err
}

// provesRemoved returns the credential ID of an assertion by a passkey that its user has removed, if the
// signature is right; nil otherwise. Others must not learn which passkeys there were.
func (s *session) provesRemoved(r *http.Request, now time.Time, c passkey.Ceremony, assertion *passkey.Assertion) ([]byte, error) {
	userID, removed, err := s.config.Accounts.RemovedPasskey(r.Context(), now, assertion.CredentialID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.config.Passkeys.VerifyAssertion(now, c, assertion, userID, removed); err != nil {
		return nil, nil // the refusal is logged as that of an unknown passkey
	}
	return assertion.CredentialID, nil
}

// signInPasskey signs a user in with a passkey. In a sign-in that has begun, or at a confirmation, it
// must be one of that user.
func (s *session) signInPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.config.Passkeys == nil {
		s.NotFound(w, r)
		return nil
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	c := passkey.Ceremony{Purpose: passkey.SignIn, Browser: identity.PasskeyCookie(r, s.config.Issuer)}
	var user *identity.User
	if r.PostForm.Get("for") == string(passkey.Confirm) {
		at, err := s.signingIn(r)
		if err != nil {
			return err
		}
		if at == nil {
			return s.signInAgain(w, r)
		}
		user = at.user
		c.Purpose, c.User = passkey.Confirm, user.ID
	}
	user, proof, refused, err := s.usePasskey(r, c, user)
	switch {
	case err != nil:
		return err
	case refused == nil:
		return s.proved(w, r, in, user, proof)
	case c.Purpose == passkey.Confirm:
		return s.writeConfirmPasskey(w, r, refused)
	}
	v := signInView{Alert: refused.alert}
	if refused.unknown != nil {
		v.PasskeySignals = s.unknownPasskey(refused.unknown)
	}
	return s.writeSignIn(w, r, in, v, pageResponse{status: http.StatusForbidden})
}

// confirmPasskeyView is the page for the passkeys of one user.
type confirmPasskeyView struct {
	Passkey *passkeyView
	Alert   *messages.Text
	// Start is set if the dialog opens at once.
	Start bool
	// Others is the URL of the other ways to continue.
	Others string
}

func (s *session) showConfirmPasskey(w http.ResponseWriter, r *http.Request) error {
	return s.writeConfirmPasskey(w, r, nil)
}

func (s *session) writeConfirmPasskey(w http.ResponseWriter, r *http.Request, refused *passkeyRefusal) error {
	at, err := s.signingIn(r)
	if err != nil {
		return err
	}
	if at == nil || s.config.Passkeys == nil || !at.user.Has(identity.MethodPasskey) {
		return s.signInAgain(w, r)
	}
	waits := waitingParams(r)
	v := confirmPasskeyView{Passkey: s.passkeys(waits), Start: refused == nil, Others: s.base + factorPath + waits.query()}
	if waits.Return != "" {
		v.Others = s.base + confirmPath + waits.query()
	} else if offered := s.offered(at); len(offered) < 2 {
		v.Others = ""
	}
	a := pageResponse{template: "passkey", title: text("passkey.use-title"), data: v, passkeys: true}
	if refused != nil {
		a.status, v.Alert = http.StatusForbidden, refused.alert
		a.data = v
	}
	if in, _ := s.formAction(r); in != "" {
		a.formAction = in
	}
	return s.write(w, a)
}

// formAction returns the source to which the form of an interaction may lead.
func (s *session) formAction(r *http.Request) (string, error) {
	id := param(r, "interaction")
	if id == "" {
		return "", nil
	}
	in, err := s.server.Interaction(r, id)
	if err != nil {
		return "", err
	}
	return in.FormAction, nil
}

// passkeySignals are the arguments of the signal methods (WebAuthn Level 3, section 5.1.10), as JSON.
type passkeySignals struct{ Unknown, Accepted, Details string }

// unknownPasskey makes a password manager forget a passkey.
func (s *session) unknownPasskey(credentialID []byte) *passkeySignals {
	return &passkeySignals{Unknown: signal(map[string]any{
		"rpId": s.config.Passkeys.RPID(), "credentialId": base64.RawURLEncoding.EncodeToString(credentialID),
	})}
}

// userPasskeys makes password managers forget all passkeys of a user that are not listed, and tells them
// what the user is called.
func (s *session) userPasskeys(user *identity.User) *passkeySignals {
	if s.config.Passkeys == nil || !user.CanHavePasskeys() {
		return nil
	}
	ids := []string{}
	for _, p := range user.Passkeys() {
		ids = append(ids, base64.RawURLEncoding.EncodeToString(p.CredentialID))
	}
	slices.Sort(ids)
	rpID, handle := s.config.Passkeys.RPID(), passkey.UserHandle(user.ID)
	return &passkeySignals{
		Accepted: signal(map[string]any{"rpId": rpID, "userId": handle, "allAcceptedCredentialIds": ids}),
		Details:  signal(map[string]any{"rpId": rpID, "userId": handle, "name": user.Username, "displayName": person(user).Name}),
	}
}

func signal(arguments map[string]any) string {
	b, _ := json.Marshal(arguments) // strings
	return string(b)
}
