package ui

import (
	"net/http"
)

// Documents at the root of the host, whatever the path of the issuer is.
const (
	// passkeyEndpointsPath is where password managers look for the pages that create and manage
	// passkeys (A Well-Known URL for Relying Party Passkey Endpoints). They look at the RP ID.
	passkeyEndpointsPath = "/.well-known/passkey-endpoints"
	// relatedOriginsPath lists other origins that may use passkeys of this RP ID (WebAuthn Level 3,
	// section 5.11).
	relatedOriginsPath = "/.well-known/webauthn"
)

// wellKnown answers a GET for a document at the root of the host, and reports whether it did.
func (u *UI) wellKnown(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	switch {
	case r.URL.Path == changePasswordPath && !u.config.NoPasswords:
		u.redirectToChangePassword(w)
	case r.URL.Path == passkeyEndpointsPath && u.config.Passkeys != nil:
		page := u.origin + u.base + passkeysPath
		u.writeWellKnown(w, map[string]string{"enroll": page, "manage": page})
	case r.URL.Path == relatedOriginsPath && len(u.config.RelatedOrigins) > 0 && u.config.Passkeys != nil:
		u.writeWellKnown(w, map[string][]string{"origins": u.config.RelatedOrigins})
	default:
		return false
	}
	return true
}

func (u *UI) writeWellKnown(w http.ResponseWriter, content any) {
	_ = u.writeJSON(w, http.StatusOK, content) // strings
}
