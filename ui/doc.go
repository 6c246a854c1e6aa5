// Package ui contains the pages that end users see: sign-in, consent, sign-out, the account,
// the setup of the first administrator, and an error page for every failure. It connects
// identity, which knows users, to authserver, which knows OAuth.
//
// UI implements authserver.Users for the engine, and the pages report to the engine what the
// user decided:
//
//	pages, err := ui.New(ui.Config{Issuer: issuer, Accounts: accounts, Store: store})
//	engine, err := authserver.New(authserver.Config{
//		Issuer: issuer, Store: store, Secret: secret,
//		Users:  pages,
//		Pages:  authserver.Pages{Error: pages.ErrorPage},
//		SignIn: authserver.SignInSettings{BrowserStateCookie: identity.BrowserStateCookie(issuer)},
//	})
//	handler := pages.Handler(engine) // for the paths that engine.Handles rejects
//	…
//	engine.DeliverLogouts(ctx)       // every few seconds, and when engine.LogoutsDue() fires
//
// Programs that submit the forms must send the Origin header with the issuer's origin, as
// browsers do (post.go).
//
//	ui.go        Config, New, Handler: the table of pages
//	users.go     authserver.Users: users and sign-in sessions for the engine
//	page.go      how a page is rendered, with its headers
//	template.go  the templates and their functions, in each language
//	language.go  which language a page has; ui/messages has the texts
//	post.go      which requests may submit a form
//	signin.go signup.go consent.go signout.go setup.go error.go
//	account.go   the account page; account_*.go and templates/account have a section each
//	proved.go    what a sign-in still needs after a proof, and its end
//	needs.go     what a sign-in must reach
//	enrol.go     setting up a second factor while signing in
//	recover.go   a link from an operator
//	recovery.go  a recovery by mail, after a delay
//	factor.go    the choice of what to prove next
//	confirm.go   a recent proof, before changes of the account
//	mailed.go    pages that messages lead to
//	forgot.go    a forgotten password
//	email.go     the email address of an account
//	words.go     texts that depend on more than the page
//	templates/   the pages; assets/ has the style sheet and a short script
//
// Every page works without scripts, with the keyboard, from a width of 320 pixels, and in the
// light and the dark color scheme.
package ui
