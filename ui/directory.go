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

// confirmAtDirectory proves the password of a signed-in user again, at the directory.
func (s *session) confirmAtDirectory(w http.ResponseWriter, r *http.Request, at *directory.Directory, link *identity.ExternalLink) error {
	now, user := time.Now(), s.who.User
	username, _ := link.Claims["preferred_username"].(string)
	if username == "" {
		username = user.Username
	}
	external, err := s.config.Accounts.ProveAtDirectory(r.Context(), now, user, identity.Attempt{
		Password: r.PostForm.Get("password"), Remote: s.config.RemoteAddr(r), Device: identity.DeviceCookie(r, s.config.Issuer),
	}, at.Again(r.Context(), link.Subject, username))
	if err == nil {
		return s.provedExternal(w, r, now, nil, user, external)
	}
	return s.confirmRefused(w, r, err)
}

// hasDirectoryPassword reports whether the user proves a password at a directory, and has not just done
// so.
func (s *session) hasDirectoryPassword(user *identity.User, proofs []identity.ProvedMethod) bool {
	at, _ := s.directoryOf(user)
	return at != nil && !slices.ContainsFunc(proofs, func(p identity.ProvedMethod) bool { return p.Method == identity.MethodUpstream })
}
