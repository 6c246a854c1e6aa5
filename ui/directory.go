package ui

import (
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
)

// directoryFailed writes the page for a user whose password the directory has accepted, but who has no
// account here, or may not have one.
func (s *session) directoryFailed(w http.ResponseWriter, r *http.Request, external *identity.ExternalUser, purpose string, waits waiting, err error) error {
	return s.externalFailed(w, r, providerView{ID: external.Provider, Name: cleanName(external.Name)}, purpose, waits, err)
}

// directoryOf returns the directory whose password the user has, and the link to it; nil if there is
// none.
func (s *session) directoryOf(user *identity.User) (*directory.Directory, *identity.ExternalLink) {
	for i := range user.External {
		if d := s.config.Directories.Directory(user.External[i].Provider); d != nil {
			return d, &user.External[i]
		}
	}
	return nil, nil
}

// hasDirectoryPassword reports whether the user proves a password at a directory, and has not just done
// so.
func (s *session) hasDirectoryPassword(user *identity.User, proofs []identity.ProvedMethod) bool {
	at, _ := s.directoryOf(user)
	return at != nil && !slices.ContainsFunc(proofs, func(p identity.ProvedMethod) bool { return p.Method == identity.MethodUpstream })
}

// attemptAtDirectory is the attempt of a signed-in user.
func (s *session) attemptAtDirectory(r *http.Request) identity.Attempt {
	return identity.Attempt{
		Password: r.PostForm.Get("password"), Remote: s.config.RemoteAddr(r), Device: identity.DeviceCookie(r, s.config.Issuer),
	}
}

// confirmAtDirectory proves the password of a signed-in user again, at the directory.
func (s *session) confirmAtDirectory(w http.ResponseWriter, r *http.Request, at *directory.Directory, link *identity.ExternalLink) error {
	now, user := time.Now(), s.who.User
	username, _ := link.Claims["preferred_username"].(string)
	if username == "" {
		username = user.Username
	}
	signIn, err := s.config.Accounts.VerifyAtDirectory(r.Context(), now, user, s.attemptAtDirectory(r), at.Again(r.Context(), link.Subject, username))
	if err == nil && !isLinked(user, signIn.User) {
		err = identity.ErrWrongCredentials
	}
	if err != nil {
		return s.confirmRefused(w, r, err)
	}
	if _, err := s.config.Accounts.SignInExternal(r.Context(), now, signIn); err != nil { // refreshes groups and claims
		return s.directoryFailed(w, r, signIn.User, purposeConfirm, waitingParams(r), err)
	}
	return s.provedExternal(w, r, now, nil, user, signIn.User)
}

// linkDirectory links the user of a directory with the account of the signed-in user.
func (s *session) linkDirectory(w http.ResponseWriter, r *http.Request, at *directory.Directory) error {
	now, identifier := time.Now(), r.PostForm.Get("identifier")
	signIn, err := s.config.Accounts.VerifyAtDirectory(r.Context(), now, s.who.User, s.attemptAtDirectory(r),
		directory.Users([]*directory.Directory{at}, identifier)(r.Context())[0])
	if err != nil {
		v := linkedView{Identifier: cutRunes(clean(identifier), 254)}
		a, known := signInRefusal(err, &v.Alert)
		if !known {
			return err
		}
		return s.writeLinked(w, v, a)
	}
	if err := s.config.Accounts.LinkExternal(r.Context(), now, s.who.User.ID, signIn, s.activity(r)); err != nil {
		return s.directoryFailed(w, r, signIn.User, purposeLink, waiting{}, err)
	}
	return s.notifyAt(w, linkedPath, "linked")
}

// keptOut reports whether the directory whose user this is no longer lets them in. It is asked when a
// sign-in begins with another method than the password there. A user with a password here is not only
// a user of the directory.
func (s *session) keptOut(r *http.Request, user *identity.User, proof identity.ProvedMethod) bool {
	at, link := s.directoryOf(user)
	if at == nil || user.PasswordHash != "" || proof.Method == identity.MethodUpstream {
		return false
	}
	in, known := at.LetsIn(r.Context(), link.Subject)
	if !known {
		return !link.SuspendedAt.IsZero()
	}
	return !in
}
