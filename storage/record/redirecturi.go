package record

import (
	"crypto/sha256"
	"encoding/base64"
)

// RedirectURIUse returns the owner and the name of the storage.Use of a registered redirect URI of a
// client by a user. storage.Uses of the owner says how many users used the URI, and when. Both are
// hashes, so that they have a limited length, and do not say who the user is without the user's ID.
func RedirectURIUse(clientID, redirectURI, subject string) (owner, name string) {
	var space [512]byte
	text := append(space[:0], clientID...)
	text = append(append(text, 0), redirectURI...)
	uri := sha256.Sum256(text)
	text = append(append(space[:0], uri[:]...), subject...)
	user := sha256.Sum256(text)
	return "redirect_uri " + base64.RawURLEncoding.EncodeToString(uri[:24]), base64.RawURLEncoding.EncodeToString(user[:16])
}
