// Package ui is what people see: signing in, consent, signing out, their account, the
// first administrator, and a page for every dead end. It introduces identity, which knows
// people, to authserver, which knows OAuth.
//
// The engine asks the pages about people, and the pages tell the engine what people did:
//
//	pages, err := ui.New(ui.Config{Issuer: issuer, Accounts: accounts, Store: store})
//	engine, err := authserver.New(authserver.Config{
//		Issuer: issuer, Store: store, Secret: secret,
//		SignedIn: pages.SignedIn, Claims: pages.Claims,
//		SessionActive: pages.SessionActive, SignOut: pages.SignOut,
//		EndedSessions: pages.EndedSessions, ForgetEnded: pages.ForgetEnded,
//		FindSubject: pages.FindSubject, EndSessions: pages.EndSessions,
//		BrowserStateCookie: identity.BrowserStateCookie(issuer),
//		Pages: authserver.Pages{Error: pages.ErrorPage},
//	})
//	handler := pages.Handler(engine) // for what engine.Handles(path) denies
//	…
//	engine.DeliverLogouts(ctx)       // every few seconds, and when engine.LogoutsDue() says so
//
// Programs that fill in the forms send the header Origin with the issuer's origin, as
// browsers do (post.go).
//
//	ui.go        Config, New, Handler: the table of pages
//	people.go    what the engine asks about people: SignedIn, SessionActive, SignOut, Claims
//	page.go      one way to write a page, with its headers
//	post.go      who may send a form
//	signin.go consent.go signout.go account.go setup.go error.go
//	words.go     texts that depend on more than the page
//	templates/   the pages; assets/ their style and the few lines of script
//
// Every page works without scripts, by keyboard, from 320 pixels up, in the light and in
// the dark.
package ui
