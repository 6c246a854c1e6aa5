package ui

import (
	"errors"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/ui/messages"
)

// invalidTexts are the keys of texts for errors of other packages.
var invalidTexts = map[error]string{
	mail.ErrAddress: "invalid.address", mail.ErrLocalPart: "invalid.local-part",
	identity.ErrIdentifier: "invalid.username", identity.ErrLookAlike: "invalid.look-alike", identity.ErrManaged: "invalid.managed",
	identity.ErrManagedUsername: "invalid.username-managed", identity.ErrTooManyUsernames: "invalid.too-many-usernames",
}

// invalidText returns the text for a name or an address that is not allowed.
func invalidText(err *identity.InvalidUserError) *messages.Text {
	for reason, key := range invalidTexts {
		if errors.Is(err, reason) {
			return text(key)
		}
	}
	return messages.Plain(sentence(err.Error()))
}

// weakText returns the text for a password that is not allowed.
func weakText(err *identity.WeakPasswordError) *messages.Text {
	return text("password.weak."+err.Weakness, "count", err.Min)
}
