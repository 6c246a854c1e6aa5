package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/ui/messages"
)

const wasntMePath = "/account/not-me"

// eventView is a recent security event.
type eventView struct {
	What  *messages.Text
	At    moment
	Where string
}

// eventTexts are the keys of the texts of events.
var eventTexts = map[identity.EventKind]string{
	identity.EventNewDevice:         "event.new-device",
	identity.EventFactorFailed:      "event.factor-failed",
	identity.EventPasswordChanged:   "event.password-changed",
	identity.EventPasswordReset:     "event.password-reset",
	identity.EventPasswordRemoved:   "event.password-removed",
	identity.EventUserCodeChanged:   "event.user-code-changed",
	identity.EventAddressChanged:    "event.address-changed",
	identity.EventAddressRestored:   "event.address-restored",
	identity.EventUsernameChanged:   "event.username-changed",
	identity.EventUsernameTaken:     "event.username-taken",
	identity.EventUsernameReleased:  "event.username-released",
	identity.EventAddressTaken:      "event.address-taken",
	identity.EventMethodAdded:       "event.method-added",
	identity.EventMethodRemoved:     "event.method-removed",
	identity.EventMethodRestored:    "event.method-restored",
	identity.EventRecovered:         "event.recovered",
	identity.EventRecoveryBegun:     "event.recovery-begun",
	identity.EventRecoveryStopped:   "event.recovery-stopped",
	identity.EventAccessGranted:     "event.access-granted",
	identity.EventAccessRevoked:     "event.access-revoked",
	identity.EventSessionEnded:      "event.session-ended",
	identity.EventSessionsEnded:     "event.sessions-ended",
	identity.EventLockedDown:        "event.locked-down",
	identity.EventExported:          "event.exported",
	identity.EventDeletionRequested: "event.deletion-requested",
	identity.EventDeletionCanceled:  "event.deletion-canceled",
}

// shownEvents is how many events the account page shows.
const shownEvents = 20

// securityEvents returns recent security events, the newest first. New consents are not stored as
// events: the grants say when they were given.
func (s *session) securityEvents(applications []applicationView) []eventView {
	now := time.Now()
	events := s.who.User.RecentEvents(now)
	for _, a := range applications {
		if now.Sub(a.Since.Time) < identity.EventLifetime {
			events = append(events, identity.SecurityEvent{Kind: identity.EventAccessGranted, At: a.Since.Time, Detail: a.Name})
		}
	}
	identity.SortEvents(events)
	var views []eventView
	for _, e := range events[:min(len(events), shownEvents)] {
		key := eventTexts[e.Kind]
		if key == "" {
			continue // of a later version
		}
		v := eventView{What: text(key, "detail", cutRunes(clean(e.Detail), maxNameRunes), "count", max(e.Count, 1)), At: moment{e.At, true}}
		if v.Where = s.where(e.Remote); v.Where != "" && e.Browser != "" {
			v.Where = cleanName(e.Browser) + " · " + v.Where
		}
		views = append(views, v)
	}
	return views
}

type wasntMeView struct {
	User *identity.User
	// Locks is set if the account can be locked down.
	Locks bool
	Email string
}

// showWasntMe explains what the button does.
func (s *session) showWasntMe(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	v := wasntMeView{User: s.who.User, Locks: s.canLockDown(), Email: s.who.User.Email()}
	return s.write(w, pageResponse{template: "not-me", title: text("not-me.title"), account: s.who.User, data: v})
}

// canLockDown reports whether the account can be locked down: the user can unlock it with a message.
func (s *session) canLockDown() bool {
	return s.config.PasswordReset && s.config.Accounts.CanLockDown(s.who.User)
}

// wasntMe locks the account down. It needs no fresh proof: a thief may have changed the password. Without
// an address to unlock the account with, it ends all other sessions, and the user is asked to change
// the password.
func (s *session) wasntMe(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if !s.canLockDown() {
		if err := s.config.Accounts.EndOtherSessions(r.Context(), time.Now(), s.who, s.activity(r)); err != nil {
			return err
		}
		s.server.SessionsEnded()
		return s.redirect(w, "/account/password")
	}
	err := s.config.Accounts.LockDown(r.Context(), time.Now(), s.who.User.ID, s.activity(r))
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, identity.ErrNoLockDown) {
		return s.redirect(w, wasntMePath)
	}
	if err != nil {
		return err
	}
	s.server.SessionsEnded()
	identity.ClearSessionCookie(w, s.config.Issuer)
	s.who = nil
	return s.writeDone(w, text("not-me.done"), doneView{Text: text("not-me.done.text"), Button: text("not-me.choose-password"), Next: s.base + forgotPath})
}

// lastUse returns when the last of several grants was used, and from where.
func (s *session) lastUse(uses map[string]storage.Use, grants []string) (moment, string) {
	var last storage.Use
	for _, grant := range grants {
		if use := uses[record.GrantUse(grant)]; use.At.After(last.At) {
			last = use
		}
	}
	return moment{last.At, true}, s.where(last.Remote)
}
