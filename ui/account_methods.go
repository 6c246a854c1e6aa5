package ui

import (
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// methodView is a row of the account page's list of ways to sign in.
type methodView struct {
	Name, Detail *messages.Text
	// Added and LastUsed are zero if that is not known.
	Added, LastUsed moment
	// Href is the page on which the user changes it, Action what the link says.
	Href   string
	Action *messages.Text
}

// methodRows return the rows of a method; nil if it is not available to users. Each method has one.
var methodRows = []func(*session, *identity.User) []methodView{passkeyMethodRow, passwordRow, totpRow, recoveryCodesRow, linkedRow}

// signInMethods returns the ways to sign in that the account page lists.
func (s *session) signInMethods(user *identity.User) []methodView {
	var rows []methodView
	for _, row := range methodRows {
		rows = append(rows, row(s, user)...)
	}
	return rows
}

func passwordRow(s *session, user *identity.User) []methodView {
	if at, _ := s.directoryOf(user); at != nil && user.PasswordHash == "" {
		return []methodView{{Name: text("common.password"), Detail: text("password.directory", "directory", cleanName(at.Name()))}}
	}
	return []methodView{{Name: text("common.password"), Detail: text("account.password-hint"), Href: s.base + "/account/password", Action: text("password.submit")}}
}
