package ui

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/ui/messages"
)

const passkeysPath = "/account/passkeys"

type passkeysView struct {
	User     *identity.User
	Passkeys []passkeyRow
	Alert    *messages.Text
	Notice   *messages.Text
	// Second is set if the only passkey cannot leave its device, so that a second one is needed.
	Second bool
	// Full is set if no more can be added.
	Full bool
	Add  *passkeyView
}

type passkeyRow struct {
	ID, Name string
	// Model is the name of the authenticator or password manager; "" if it is unknown, or the same as
	// the name.
	Model string
	// Synced is set if the passkey can be copied to other devices. Where says where it is.
	Synced bool
	Where  *messages.Text
	// Kind selects the icon: synced, key or device.
	Kind            string
	Added, LastUsed moment
	// Last is set if the passkey cannot be removed because the user could not sign in without it.
	Last bool
}

// passkeyRows describes the passkeys of a user.
func (s *session) passkeyRows(user *identity.User) []passkeyRow {
	var rows []passkeyRow
	for _, a := range user.Authenticators {
		if a.Passkey == nil {
			continue
		}
		row := passkeyRow{
			ID: a.ID, Name: a.Name, Model: passkey.ModelName(a.Passkey.AAGUID), Synced: a.Passkey.BackupEligible,
			Kind: passkeyKind(a.Passkey), Where: passkeyWhere(a.Passkey), Added: moment{Time: a.CreatedAt}, LastUsed: moment{Time: a.LastUsedAt}, Last: !s.config.Accounts.CanRemove(user, a.ID),
		}
		if strings.EqualFold(row.Model, row.Name) {
			row.Model = ""
		}
		rows = append(rows, row)
	}
	return rows
}

// passkeyKind guesses what has a passkey.
func passkeyKind(p *identity.Passkey) string {
	internal := false
	for _, transport := range p.Transports {
		internal = internal || transport == "internal"
	}
	switch {
	case p.BackupEligible:
		return "synced"
	case internal:
		return "device"
	}
	return "key"
}

// passkeyWhere says where a passkey is.
func passkeyWhere(p *identity.Passkey) *messages.Text {
	switch {
	case p.BackedUp:
		return text("passkey.synced")
	case p.BackupEligible:
		return text("passkey.can-sync")
	case passkeyKind(p) == "key":
		return text("passkey.on-key")
	}
	return text("passkey.on-device")
}

// passkeyMethodRow is the row of the account page.
func passkeyMethodRow(s *session, user *identity.User) []methodView {
	if s.config.Passkeys == nil || !user.CanHavePasskeys() {
		return nil
	}
	row := methodView{Name: text("passkeys.title"), Detail: text("passkey.hint"), Href: s.base + passkeysPath, Action: text("passkey.add")}
	rows := s.passkeyRows(user)
	if len(rows) == 0 {
		return []methodView{row}
	}
	var names []string
	for _, p := range rows {
		names = append(names, cleanName(p.Name))
		if p.LastUsed.After(row.LastUsed.Time) {
			row.LastUsed = p.LastUsed
		}
	}
	first := strings.Join(names[:min(len(names), 4)], ", ")
	row.Detail, row.Action = messages.Plain(first), text("passkey.manage")
	if more := len(names) - 4; more > 0 {
		row.Detail = text("passkey.more", "names", first, "count", more)
	}
	return []methodView{row}
}

// showPasskeys lists the user's passkeys. All that can be done there needs a recent proof.
func (s *session) showPasskeys(w http.ResponseWriter, r *http.Request) error {
	if s.config.Passkeys == nil {
		s.NotFound(w, r)
		return nil
	}
	if done, err := s.needRecentProof(w, r, passkeysPath); done {
		return err
	}
	return s.writePasskeys(w, r, passkeysView{Notice: s.notice(w, r)}, pageResponse{})
}

func (s *session) writePasskeys(w http.ResponseWriter, r *http.Request, v passkeysView, a pageResponse) error {
	user := s.who.User
	v.User, v.Add = user, s.passkeys(waiting{})
	if s.who.Enrolling == "" { // such a session can only add one
		v.Passkeys = s.passkeyRows(user)
	}
	v.Full = len(v.Passkeys) >= identity.MaxPasskeys || !user.CanHavePasskeys()
	v.Second = len(v.Passkeys) == 1 && !v.Passkeys[0].Synced
	v.Add.Signals = s.userPasskeys(user)
	v.Add.Primary = len(v.Passkeys) == 0 || v.Second
	a.template, a.title, a.account, a.data, a.passkeys = "passkeys", text("passkey.title"), user, v, true
	return s.write(w, a)
}

// addPasskey adds a passkey that the browser has created.
func (s *session) addPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.config.Passkeys == nil {
		s.NotFound(w, r)
		return nil
	}
	if done, err := s.needRecentProof(w, r, passkeysPath); done {
		return err
	}
	proof, alert, err := s.createPasskey(r, passkey.Create)
	if err != nil {
		return err
	}
	if alert != nil {
		return s.writePasskeys(w, r, passkeysView{Alert: alert}, pageResponse{status: http.StatusBadRequest})
	}
	if s.who.Enrolling != "" {
		if _, has := s.who.User.RecoveryCodesLeft(); !has {
			s.then = recoveryCodesPath
		}
		return s.proved(w, r, nil, s.who.User, proof)
	}
	// The user has just used the new passkey. Without that proof, the account would now ask for more
	// than this session has, and the user could not go on with a second passkey.
	if _, _, err := s.begin(w, r, proof.At, s.who.User, identity.MergeProofs(s.who.Proofs, proof)); err != nil {
		return err
	}
	return s.notifyAt(w, passkeysPath, "passkey-added")
}

// createPasskey verifies the response of a browser and adds the passkey. It returns why not, if it could
// not.
func (s *session) createPasskey(r *http.Request, purpose passkey.Purpose) (proof identity.ProvedMethod, alert *messages.Text, err error) {
	now, user := time.Now(), s.who.User
	created, err := s.verifyCreation(r, now, purpose, user.ID)
	if err == nil {
		var id string
		id, err = s.config.Accounts.AddPasskey(r.Context(), now, user, newPasskeyName(user, s.passkeyName(r, created)), created.Passkey, s.activity(r))
		proof = passkeyProof(now, id, &created.Passkey, created.UserVerified)
	}
	alert, err = s.creationRefused(r, user.ID, err)
	return proof, alert, err
}

// verifyCreation verifies the response of a browser that has created a passkey for a user, and that its
// challenge is used for the first time.
func (s *session) verifyCreation(r *http.Request, now time.Time, purpose passkey.Purpose, userID string) (*passkey.Created, error) {
	c := passkey.Ceremony{Purpose: purpose, Browser: identity.PasskeyCookie(r, s.config.Issuer), User: userID}
	created, err := s.config.Passkeys.VerifyCreation(now, c, []byte(r.PostForm.Get("response")))
	if err == nil {
		err = s.config.Accounts.SpendPasskeyChallenge(r.Context(), now, created.Challenge, created.ChallengeExpires)
	}
	return created, err
}

// passkeyName returns a name for a new passkey.
func (s *session) passkeyName(r *http.Request, created *passkey.Created) string {
	return cmp.Or(passkey.ModelName(created.Passkey.AAGUID), s.language.Text(browser(r.UserAgent())))
}

// creationRefused returns why a new passkey was not accepted; nil if it was, or for another error.
func (s *session) creationRefused(r *http.Request, userID string, err error) (*messages.Text, error) {
	refused, isRefused := errors.AsType[*passkey.RefusedError](err)
	switch {
	case isRefused && (refused.Reason == passkey.ReasonModel || refused.Reason == passkey.ReasonAttestation):
		return text("alert.passkey-model"), nil
	case isRefused && refused.Reason == passkey.ReasonExpired, errors.Is(err, identity.ErrPasskeyReplayed):
		return text("alert.passkey-too-late"), nil
	case isRefused:
		s.log.InfoContext(r.Context(), "new passkey refused", "sub", userID, "reason", string(refused.Reason))
		return text("alert.passkey-not-added"), nil
	case errors.Is(err, identity.ErrPasskeyExists):
		return text("alert.passkey-exists"), nil
	case errors.Is(err, identity.ErrTooManyAuthenticators):
		return text("alert.passkey-too-many"), nil
	}
	return nil, err
}

// newPasskeyName returns a name that no other passkey of the user has.
func newPasskeyName(user *identity.User, name string) string {
	taken := map[string]bool{}
	for _, a := range user.Authenticators {
		taken[a.Name] = true
	}
	unique := name
	for i := 2; taken[unique]; i++ {
		unique = fmt.Sprintf("%s (%d)", name, i)
	}
	return unique
}

// maxPasskeyName is the longest name, in characters.
const maxPasskeyName = 60

func (s *session) renamePasskey(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, passkeysPath); done {
		return err
	}
	name := cleanName(cutRunes(r.PostForm.Get("name"), maxPasskeyName))
	if found := s.who.User.Authenticator(r.PostForm.Get("passkey")); found != nil && found.Passkey != nil && name != "" && name != found.Name {
		err := s.config.Accounts.UpdateAuthenticator(r.Context(), s.who.User.ID, found.ID, func(a *identity.Authenticator) error {
			a.Name = name
			return nil
		})
		if err != nil {
			return err
		}
		return s.notifyAt(w, passkeysPath, "passkey-renamed")
	}
	return s.redirect(w, passkeysPath)
}

func (s *session) removePasskey(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, passkeysPath); done {
		return err
	}
	err := s.config.Accounts.RemovePasskey(r.Context(), time.Now(), s.who.User, r.PostForm.Get("passkey"), s.activity(r))
	if errors.Is(err, identity.ErrLastMethod) {
		return s.writePasskeys(w, r, passkeysView{Alert: text("alert.passkey-last")}, pageResponse{status: http.StatusConflict})
	}
	if err != nil {
		return err
	}
	return s.notifyAt(w, passkeysPath, "passkey-removed")
}
