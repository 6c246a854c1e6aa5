// Package ui is what people see: signing in, consent, signing out, their account, the
// first administrator, and a page for every dead end. It introduces identity, which knows
// people, to authserver, which knows OAuth.
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
