// Package console has the pages on which an operator manages the server, at /console of the issuer.
//
// The console is a client of the management API: every page reads and changes only through calls of
// package manage/api, as the user who has signed in, so it can do nothing that the user's role does not
// allow. Every page works without scripts. It is in English.
//
//	console.go   Config, New, the table of pages
//	page.go      how a page is rendered; notices
//	overview.go  the first page
//	clients.go   clients; clientform.go has their form
//	clientaccess.go secrets, grants and tokens of a client
//	recipes.go   known applications; recipetable.go has them
//	wait.go      the first request of a client whose redirect URI is not known
//	welcome.go   first steps on a new server
//	scopes.go resources.go registrations.go keys.go
//	users.go     users
//	confirm.go   a question before something ends
//	health.go    whether the server is well, and what happens on it
//	explanations.go preview.go audit.go outbox.go
//	templates/   the pages; assets/ has what the style sheet of package ui lacks
package console
