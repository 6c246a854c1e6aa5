package ui

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/ui/messages"
)

var alice = &identity.User{ID: "a", Username: "alice", Claims: map[string]any{"name": "Alice Liddell", "email": "alice@example.com"}}

// samplePages are all pages with sample data.
var samplePages = map[string]pageResponse{
	"sign-in":       {template: "sign-in", title: text("sign-in.title"), data: signInView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignUp: "/", Forgot: "/"}},
	"sign-in-wrong": {template: "sign-in", title: text("sign-in.title"), data: signInView{ClientName: "Photo Printer", Identifier: "alice@example.com", Alert: text("alert.wrong-credentials"), Continue: "/"}},
	"consent": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Photo Printer", Initial: "P", Website: "printer.example.com", Destination: messages.Plain("app.printer.example.com"), Person: person(alice),
		Wanted: []scopeView{{Words: messages.Plain("See your photos")}, {Words: messages.Plain("photos.write"), Plain: true}, {Words: messages.Plain("Add photos to your albums"), Optional: true}, {Words: text("scope.offline-access")}},
		Before: []scopeView{{Words: text("scope.openid")}, {Words: text("scope.email"), Optional: true, Ticked: true}}, Resources: []string{"Photo library"},
		PolicyURI: "https://printer.example.com/privacy", TOSURI: "https://printer.example.com/terms",
	}},
	"consent-native": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "photo-cli", Initial: "P", Destination: text("destination.device", "where", "127.0.0.1:53112"), Native: true, Person: person(&identity.User{Username: "bob"}),
		Wanted: []scopeView{{Words: text("scope.openid")}, {Words: text("scope.profile"), Optional: true, Ticked: true}},
	}},
	"consent-unvouched": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Photo Printer", Initial: "P", Logo: "/logo.png", Website: "printer.example.com", Destination: messages.Plain("app.printer.example.com"), Person: person(alice), Unvouched: true,
		Wanted:    []scopeView{{Words: text("scope.openid")}, {Words: text("scope.email"), Optional: true, Ticked: true}},
		PolicyURI: "https://printer.example.com/privacy", TOSURI: "https://printer.example.com/terms",
	}},
	"consent-document": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Example MCP Client", Initial: "E", Publisher: "app.example.com", Unvouched: true, Newcomer: true, FirstTime: true, Person: person(alice),
		Destination: text("destination.device", "where", "localhost:3118"), Native: true, Resources: []string{"Files"},
		Wanted: []scopeView{{Words: messages.Plain("Read your files")}, {Words: text("scope.offline-access"), Optional: true, Ticked: true}},
	}},
	"consent-document-web": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Example MCP Client", Initial: "E", Publisher: "app.example.com", Unvouched: true, FirstTime: true, Person: person(alice),
		Destination: messages.Plain("callbacks.example.net"), Resources: []string{"Files"}, Wanted: []scopeView{{Words: messages.Plain("Read your files")}},
	}},
	"error-document": {template: "error", title: errorTexts[authserver.PageClientDocument].Title(), data: errorView{errorText: errorTexts[authserver.PageClientDocument], Reference: "k7f2m9qx4t", Code: string(authserver.PageClientDocument), Description: "the document at client_id cannot be fetched, or does not describe a client that could work here"}},
	"consent-device": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Living Room TV", Initial: "L", Website: "tv.example.com", Person: person(alice),
		Device: &deviceRequest{UserCode: "WDJB-MJHT", When: ago(time.Minute), Address: "198.51.100.23", Elsewhere: true},
		Wanted: []scopeView{{Words: text("scope.openid")}, {Words: messages.Plain("See your photos"), Optional: true, Ticked: true}},
	}},
	"consent-backchannel": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Corner Bank", Initial: "C", Website: "bank.example.com", Person: person(alice),
		Backchannel: &backchannelRequest{BindingMessage: "W4SCT", When: ago(0), Expires: inTime(5 * time.Minute)}, Details: []string{"Pay 49.90 EUR to Corner Shop"},
		Wanted: []scopeView{{Words: text("scope.openid")}},
	}},
	"factor":           {template: "factor", title: text("factor.title"), data: factorView{Username: "alice", waiting: waiting{Interaction: "x", ClientID: "printer"}, Another: "/", Choices: []factorChoice{{text("method.totp"), nil, "/"}, {text("method.recovery-code"), nil, "/"}}}},
	"recover":          {template: "recover", title: text("recover.title"), data: recoverView{Token: "x", Username: "alice"}},
	"recovery":         {template: "recovery", title: text("recovery.title"), data: recoveryView{SignIn: "/", Delay: duration(72 * time.Hour)}},
	"recovery-code":    {template: "recovery-begin", title: text("recovery.title"), data: beginRecoveryView{Request: "x", AskCode: true, Again: "/", Delay: duration(72 * time.Hour)}},
	"recovery-link":    {template: "recovery-begin", title: text("recovery.title"), data: beginRecoveryView{Token: "x", Again: "/", Delay: duration(72 * time.Hour)}},
	"recovery-begun":   {template: "recovery-begin", title: text("recovery.begun.title"), data: beginRecoveryView{Token: "x", Begun: true, Ready: moment{time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC), true}}},
	"recovery-stop":    {template: "recovery-stop", title: text("recovery.stop.title"), data: stopRecoveryView{"x"}},
	"recovery-pending": {template: "recovery-pending", title: text("recovery.pending.title"), data: pendingRecoveryView{Continue: "/", Recovery: &pendingRecovery{"alice@example.com", moment{time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC), true}}}},
	"undo-method":      {template: "undo-email", title: text("email.undo.title"), data: undoEmailView{Token: "x", Password: true}},
	"factor-enrol":     {template: "factor", title: text("factor.title"), data: factorView{Username: "alice", ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, Another: "/", Enrol: true}},
	"factor-none":      {template: "factor", title: text("factor.title"), data: factorView{Username: "alice", waiting: waiting{Interaction: "x", ClientID: "printer"}, Another: "/"}},
	"enrol":            {template: "enrol", title: text("enrol.title"), data: enrolView{Username: "alice", waiting: waiting{Interaction: "x", ClientID: "printer"}, Choices: []factorChoice{{text("method.totp"), nil, "/"}}}},
	"confirm":          {template: "confirm", title: text("factor.title"), account: alice, data: confirmView{User: alice, Password: true, waiting: waiting{Return: "/account/totp"}, Cancel: "/", Choices: []factorChoice{{text("method.passkey"), nil, "/"}}}},
	"approve-allowed":  {template: "approve-done", title: text("approve.allowed.short"), data: "allowed"},
	"approve-denied":   {template: "approve-done", title: text("approve.denied.short"), data: "denied"},
	"approve-later":    {template: "approve-done", title: text("approve.later.short"), data: "later"},
	"approve-gone":     {template: "approve-done", title: text("approve.gone.short"), data: "gone"},
	"consent-details": {template: "consent", title: text("consent.title", "client", "Photo Printer"), data: consentView{
		ClientName: "Corner Shop", Initial: "C", Website: "shop.example.com", Destination: messages.Plain("shop.example.com"), Person: person(alice), Resources: []string{"Payments"},
		Details: []string{"Pay 123.50 EUR to Merchant A, account DE02100100109307118603", strings.Repeat("x", 200)},
	}},
	"device":            {template: "device", title: text("device.title"), data: deviceView{}},
	"device-wrong":      {template: "device", title: text("device.title"), data: deviceView{UserCode: "WDJB-MJHX", Alert: text("device.wrong")}},
	"device-allowed":    {template: "device-done", title: text("device.allowed.short"), data: true},
	"device-denied":     {template: "device-done", title: text("device.denied.short"), data: false},
	"sign-up":           {template: "sign-up", title: text("sign-up.title"), data: signUpView{newPersonView: newPersonView{MinPassword: 15}, ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignIn: "/"}},
	"sign-up-taken":     {template: "sign-up", title: text("sign-up.title"), data: signUpView{newPersonView: newPersonView{MinPassword: 15, Username: "alice", Alert: text("alert.username-taken"), NameBad: true}, SignIn: "/"}},
	"forgot":            {template: "forgot", title: text("forgot.title"), data: forgotView{SignIn: "/"}},
	"forgot-busy":       {template: "forgot", title: text("forgot.title"), data: forgotView{SignIn: "/", Identifier: "alice", Alert: tooManyMessages(12 * time.Minute)}},
	"reset-code":        {template: "reset", title: text("reset.title"), data: resetView{MinPassword: 15, MinLength: 8, Request: "x", AskCode: true, Again: "/"}},
	"reset-code-wrong":  {template: "reset", title: text("reset.title"), data: resetView{MinPassword: 15, MinLength: 8, Request: "x", AskCode: true, Again: "/", Alert: wrongCode(), CodeBad: true}},
	"reset-link":        {template: "reset", title: text("reset.title"), data: resetView{MinPassword: 15, MinLength: 8, Token: "x", Username: "alice", Again: "/"}},
	"reset-other":       {template: "reset", title: text("reset.title"), data: resetView{MinPassword: 15, MinLength: 8, Token: "x", AskCode: true, Again: "/"}},
	"reset-done":        {template: "done", title: text("reset.done.title"), data: doneView{Text: text("reset.done.text"), Button: text("sign-in.title"), Next: "/"}},
	"user-code":         {template: "user-code", title: text("user-code.title"), account: alice, data: userCodeView{User: alice, Shortest: 6, Longest: 64}},
	"user-code-set":     {template: "user-code", title: text("user-code.title"), account: alice, data: userCodeView{User: alice, Set: true, Shortest: 6, Longest: 64, Alert: text("user-code.weak")}},
	"email":             {template: "email", title: text("email.title"), account: alice, data: emailView{User: alice, NeedPassword: true}},
	"email-wrong":       {template: "email", title: text("email.title"), account: alice, data: emailView{User: alice, NeedPassword: true, Email: "alice@example", Alert: text("invalid.address"), EmailBad: true}},
	"email-code":        {template: "email-code", title: text("email.confirm.title"), account: alice, data: emailView{User: alice, Request: "x"}},
	"confirm-email":     {template: "confirm-email", title: text("email.confirm.title"), data: confirmEmailView{Email: "alice@example.com", Token: "x"}},
	"confirm-elsewhere": {template: "confirm-email", title: text("email.confirm.title"), data: confirmEmailView{Email: "alice@example.com", Code: "1234 5678"}},
	"undo-email":        {template: "undo-email", title: text("email.undo.short"), data: undoEmailView{Email: "alice@example.com", Token: "x"}},
	"undo-email-keeps":  {template: "undo-email", title: text("email.undo.short"), data: undoEmailView{Email: "alice@example.com", Token: "x", Password: true, Keeps: true, Alert: text("alert.incorrect-password")}},
	"undo-impossible":   {template: "undo-email", title: text("email.undo.short"), data: undoEmailView{Token: "x", Impossible: true}},
	"sign-up-email":     {template: "sign-up-email", title: text("sign-up.title"), data: signUpView{ClientName: "Photo Printer", SignIn: "/"}},
	"sign-up-code":      {template: "sign-up", title: text("sign-up.title"), data: signUpView{Request: "x", AskCode: true, newPersonView: newPersonView{MinPassword: 15, NoEmail: true}, SignIn: "/"}},
	"sign-up-invited":   {template: "sign-up", title: text("sign-up.title"), data: signUpView{Invitation: "x", Proven: "erin@example.com", newPersonView: newPersonView{MinPassword: 15, NoEmail: true}, SignIn: "/"}},
	"sign-up-closed":    {template: "sign-up-closed", title: text("sign-up.title"), data: signUpView{SignIn: "/"}},
	"link-over":         {template: "error", title: errorTexts[pageLinkOver].Title(), data: errorView{errorText: errorTexts[pageLinkOver]}},
	"select-account":    {template: "select-account", title: text("select-account.title"), data: selectAccountView{ClientName: "Photo Printer", Person: person(alice), Another: "/"}},
	"sign-out":          {template: "sign-out", title: text("sign-out.title"), data: signOutView{ClientName: "Photo Printer", Person: person(alice)}},
	"sign-out-told": {template: "sign-out", title: text("sign-out.title"), data: signOutView{
		Person:       person(alice),
		Applications: []signedInView{{"Photo Printer", "P"}, {"The Notes of a Whole Department, Shared", "T"}, {"Calendar", "C"}}, Staying: []string{"Old Wiki", "Time Sheets"},
	}},
	"signed-out":    {template: "signed-out", title: text("signed-out.title"), data: signedOutView{}},
	"signed-out-on": {template: "signed-out", title: text("signed-out.title"), data: signedOutView{ContinueTo: "#", Host: "app.printer.example.com"}},
	"account": {template: "account", title: text("account.title"), account: alice, data: accountView{
		User: alice, Person: person(alice), Notice: text("notice.revoked"), Language: &languageView{Chosen: "en", Choices: messages.All()},
		Methods: []methodView{
			{Name: text("common.password"), Detail: text("account.password-hint"), Href: "/account/password", Action: text("password.submit")},
			{Name: text("method.totp"), Added: moment{Time: time.Date(2026, time.February, 3, 0, 0, 0, 0, time.UTC)}, LastUsed: moment{Time: time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)}, Href: "/account/totp", Action: text("account.manage")},
		}, Email: &emailState{Address: "alice@example.com", Verified: true, Pending: "alice.liddell@example.org"},
		Recovery: &pendingRecovery{"alice@example.com", moment{time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC), true}},
		Approvals: []approvalView{
			{backchannelRequest{"W4SCT", ago(0), inTime(5 * time.Minute)}, "1", "Corner Bank", "C", []scopeView{{Words: text("scope.openid")}}, []string{"Pay 49.90 EUR to Corner Shop"}},
			{backchannelRequest{"", ago(2 * time.Minute), inTime(90 * time.Second)}, "2", "Call Center of the Department of Long Names", "C", []scopeView{{Words: text("scope.openid")}, {Words: text("scope.email")}}, nil},
		},
		Applications: []applicationView{
			{Grants: []string{"1"}, Name: "Calendar", Initial: "C", Website: "calendar.example.com", Open: "https://calendar.example.com/sign-in", Since: moment{time.Date(2026, time.February, 3, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: text("scope.openid")}, {Words: messages.Plain("calendar.read"), Plain: true}}},
			{Grants: make([]string, 37), Name: "Coding Agent", Initial: "C", Since: moment{time.Date(2026, time.February, 20, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: messages.Plain("See your notes")}}},
			{Grants: []string{"2"}, Name: "Photo Printer", Initial: "P", Used: moment{time.Date(2026, time.March, 2, 8, 5, 0, 0, time.UTC), true}, Where: "Frankfurt am Main, Germany · 198.51.100.7",
				Details: []detailView{{"Pay 49.90 EUR to Corner Shop", "payment", moment{time.Date(2026, time.March, 2, 8, 5, 0, 0, time.UTC), true}}, {"", "loan", moment{time.Date(2026, time.March, 1, 8, 5, 0, 0, time.UTC), true}}}, EarlierDetails: true,
				Since: moment{time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: messages.Plain("See your photos")}, {Words: text("scope.offline-access")}}},
		},
		Sessions: []sessionView{
			{Browser: browser("Firefox/ Linux"), Where: "192.0.2.17", Since: moment{time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC), true}, This: true},
			{Browser: browser("Safari/ iPhone"), Where: "Vienna, Austria · 2001:db8:4:1::20", Since: moment{time.Date(2026, time.February, 27, 7, 31, 0, 0, time.UTC), true}, Used: moment{time.Date(2026, time.March, 1, 6, 12, 0, 0, time.UTC), true}},
		},
		Events: []eventView{
			{What: text("event.new-device"), At: moment{time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC), true}, Where: "Firefox on Linux · 192.0.2.17"},
			{What: text("event.factor-failed", "count", 3), At: moment{time.Date(2026, time.February, 28, 3, 14, 0, 0, time.UTC), true}, Where: "203.0.113.9"},
		},
		UsernameChange: true, Deletion: true,
	}},
	"not-me":         {template: "not-me", title: text("not-me.title"), account: alice, data: wasntMeView{User: alice, Locks: true, Email: "alice@example.com"}},
	"not-me-ends":    {template: "not-me", title: text("not-me.title"), account: alice, data: wasntMeView{User: alice}},
	"username":       {template: "username", title: text("username.title"), account: alice, data: usernameView{User: alice, Username: "alice"}},
	"username-taken": {template: "username", title: text("username.title"), account: alice, data: usernameView{User: alice, Username: "bob", Alert: text("alert.username-taken"), NameBad: true}},
	"export":         {template: "export", title: text("export.title"), account: alice},
	"delete":         {template: "delete", title: text("delete.title"), account: alice, data: deleteView{User: alice, Days: 14}},
	"delete-refused": {template: "delete", title: text("delete.title"), account: alice, data: deleteView{User: alice, Refused: text("delete.declared")}},
	"restore":        {template: "restore", title: text("restore.title"), data: deleteView{User: alice, On: moment{time.Date(2026, time.March, 15, 12, 0, 0, 0, time.UTC), true}}},
	"passkeys": {template: "passkeys", title: text("passkey.title"), account: alice, passkeys: true, data: passkeysView{User: alice, Second: true, Add: &passkeyView{Primary: true}, Passkeys: []passkeyRow{
		{ID: "1", Name: "Blue key", Model: "YubiKey 5 NFC", Kind: "key", Where: text("passkey.on-key"), Added: moment{Time: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)}},
		{ID: "2", Name: "Google Password Manager", Kind: "synced", Where: text("passkey.synced"), Added: moment{Time: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)}, Last: true},
	}}},
	"passkey":       {template: "passkey", title: text("passkey.use-title"), passkeys: true, data: confirmPasskeyView{Passkey: &passkeyView{}, Alert: text("alert.passkey"), Others: "/"}},
	"account-empty": {template: "account", title: text("account.title"), account: alice, data: accountView{User: alice, Person: person(alice), Email: &emailState{}, Sessions: []sessionView{{Browser: browser("Chrome/ Windows"), Where: "192.0.2.17", Since: moment{time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC), true}, This: true}}}},
	"totp": {template: "totp", title: text("totp.title"), account: alice, data: totpView{User: alice, New: "/", Apps: []authenticatorView{
		{ID: "1", Name: "Phone", Added: moment{Time: time.Date(2026, time.February, 3, 0, 0, 0, 0, time.UTC)}, LastUsed: moment{Time: time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)}},
		{ID: "2", Name: "A tablet with a name that is as long as names are", Added: moment{Time: time.Date(2026, time.February, 20, 0, 0, 0, 0, time.UTC)}},
	}}},
	"totp-rename":           {template: "totp", title: text("totp.title"), account: alice, data: totpView{User: alice, New: "/", Apps: []authenticatorView{{ID: "1", Name: "Phone", Rename: true}}}},
	"totp-new":              {template: "totp-new", title: text("totp.new.title"), account: alice, data: newTOTPView{User: alice, Sealed: "x", App: "otpauth://totp/x", Secret: "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP", QR: sampleQR()}},
	"totp-new-wrong":        {template: "totp-new", title: text("totp.new.title"), account: alice, data: newTOTPView{User: alice, Sealed: "x", App: "otpauth://totp/x", Secret: "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP", QR: sampleQR(), Name: "Phone", Alert: text("totp.new.wrong")}},
	"totp-prove":            {template: "sign-in-totp", title: text("totp.prove.title"), data: proveCodeView{waiting: waiting{Interaction: "x", ClientID: "printer"}, Username: "alice", Other: "/"}},
	"totp-prove-wrong":      {template: "sign-in-totp", title: text("totp.prove.title"), data: proveCodeView{Username: "alice", Alert: text("totp.prove.wrong")}},
	"recovery-code-prove":   {template: "sign-in-recovery-code", title: text("recovery-codes.prove.title"), data: proveCodeView{waiting: waiting{Interaction: "x", ClientID: "printer"}, Username: "alice", Other: "/"}},
	"recovery-codes":        {template: "recovery-codes", title: text("recovery-codes.title"), account: alice, data: recoveryCodesView{User: alice, Has: true, Left: 9}},
	"recovery-codes-few":    {template: "recovery-codes", title: text("recovery-codes.title"), account: alice, data: recoveryCodesView{User: alice, Has: true, Left: 2, Few: true}},
	"recovery-codes-none":   {template: "recovery-codes", title: text("recovery-codes.title"), account: alice, data: recoveryCodesView{User: alice, Few: true}},
	"recovery-codes-new":    {template: "recovery-codes-new", title: text("recovery-codes.new.title"), account: alice, data: recoveryCodesView{User: alice, Codes: []string{"k7f2-m9qx-4th3-pwz8", "0123-4567-89ab-cdef", "ghjk-mnpq-rstv-wxyz", "9999-9999-9999-9999", "k7f2-m9qx-4th3-pwz8", "0123-4567-89ab-cdef", "ghjk-mnpq-rstv-wxyz", "9999-9999-9999-9999", "k7f2-m9qx-4th3-pwz8", "0123-4567-89ab-cdef"}}},
	"recovery-codes-offer":  {template: "few-recovery-codes", title: text("recovery-codes.title"), data: fewCodesView{None: true, New: "/", Continue: "/"}},
	"recovery-codes-low":    {template: "few-recovery-codes", title: text("recovery-codes.few.title"), data: fewCodesView{Left: 2, New: "/", Continue: "/"}},
	"sign-in-email-offered": {template: "sign-in", title: text("sign-in.title"), data: signInView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignUp: "/", Forgot: "/", Email: "/"}},
	"sign-in-email":         {template: "sign-in-email", title: text("sign-in.title"), data: emailSignInView{SignIn: "/"}},
	"sign-in-email-code":    {template: "sign-in-email-code", title: text("sign-in.title"), data: emailSignInView{Request: "x", SignIn: "/", Again: "/"}},
	"sign-in-email-link":    {template: "sign-in-email-link", title: text("sign-in.title"), data: emailSignInView{Token: "x"}},
	"sign-in-email-other":   {template: "sign-in-email-link", title: text("sign-in.title"), data: emailSignInView{Code: "1234 5678"}},
	"password":              {template: "password", title: text("password.title"), account: alice, data: passwordView{MinPassword: 15, User: alice}},
	"password-removable":    {template: "password", title: text("password.title"), account: alice, data: passwordView{MinPassword: 8, User: alice, Removable: true}},
	"password-wrong":        {template: "password", title: text("password.title"), account: alice, data: passwordView{MinPassword: 15, User: alice, Alert: text("alert.current-password"), CurrentBad: true}},
	"setup":                 {template: "setup", title: text("setup.short", "service", "Valetkey"), data: setupView{newPersonView: newPersonView{MinPassword: 15}}},
	"error-redirect":        {template: "error", title: errorTexts[authserver.PageRedirectURI].Title(), data: errorView{errorText: errorTexts[authserver.PageRedirectURI], Reference: "k7f2m9qx4t", Code: string(authserver.PageRedirectURI), Description: "the redirect_uri is not registered for this client", ClientName: "Photo Printer"}},
	"error-expired":         {template: "error", title: errorTexts[authserver.PageExpired].Title(), data: errorView{errorText: errorTexts[authserver.PageExpired], Application: "https://printer.example.com/", ApplicationName: "Photo Printer", Reference: "k7f2m9qx4t"}},
	"error-canceled":        {template: "error", title: errorTexts[oauth.AccessDenied].Title(), data: errorView{errorText: errorTexts[oauth.AccessDenied]}},
	"error-cookies":         {template: "error", title: errorTexts[pageNoCookies].Title(), data: errorView{errorText: errorTexts[pageNoCookies]}},
	"error-server":          {template: "error", title: errorTexts[oauth.ServerError].Title(), data: errorView{errorText: errorTexts[oauth.ServerError], Reference: "k7f2m9qx4t"}},
	"error-not-allowed":     {template: "error", title: errorTexts[authserver.PageNotAllowed].Title(), data: errorView{errorText: errorTexts[authserver.PageNotAllowed], Contact: &contactView{"payroll@example.com", "mailto:payroll@example.com"}, Application: "https://payroll.example.com/", ApplicationName: "Payroll"}},

	// Other providers and directories.
	"sign-in-providers":   {template: "sign-in", title: text("sign-in.title"), passkeys: true, data: signInView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignUp: "/", Forgot: "/", Email: "/", Passkey: &passkeyView{}, Upstream: sampleProviders}},
	"sign-in-domain":      {template: "sign-in", title: text("sign-in.title"), data: signInView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, NoPasswords: true, ByDomain: true, Upstream: sampleProviders}},
	"sign-in-no-password": {template: "sign-in", title: text("sign-in.title"), data: signInView{NoPasswords: true, Alert: text("upstream.use-provider"), Upstream: sampleProviders}},
	"confirm-provider":    {template: "confirm", title: text("factor.title"), account: alice, data: confirmView{User: alice, Cancel: "/", Upstream: sampleProviders, Choices: []factorChoice{{text("method.email"), nil, "/"}}}},
	"linked": {template: "linked", title: text("linked.title"), account: alice, data: linkedView{User: alice, Notice: text("notice.linked"), Others: sampleProviders.Providers[1:], Directories: []providerView{{ID: "office", Name: "Example Office"}}, Links: []linkView{
		{ID: "1", Provider: sampleProviders.Providers[0], Label: "Alice Liddell", Email: "alice.liddell@corp.example", OtherEmail: true},
		{ID: "2", Provider: providerView{Name: "A provider that was removed"}, Label: "alice", Off: true},
	}}},
	"linked-last":          {template: "linked", title: text("linked.title"), account: alice, data: linkedView{User: alice, Alert: text("linked.last"), Links: []linkView{{ID: "1", Provider: sampleProviders.Providers[0], Email: "alice@example.com"}}}},
	"linked-none":          {template: "linked", title: text("linked.title"), account: alice, data: linkedView{User: alice, Others: sampleProviders.Providers}},
	"linked-directory":     {template: "linked", title: text("linked.title"), account: alice, data: linkedView{User: alice, Alert: text("alert.wrong-credentials"), Identifier: "alice", Directories: []providerView{{ID: "office", Name: "Example Office"}, {ID: "lab", Name: "Example Lab"}}}},
	"password-directory":   {template: "password", title: text("password.title"), account: alice, data: passwordView{User: alice, Directory: text("password.directory", "directory", "Example Office"), Contact: &contactView{"help@example.com", "mailto:help@example.com"}}},
	"upstream-refused":     sampleUpstreamError("refused", upstreamErrorView{Reason: "Only staff may sign in.", Contact: &contactView{"help@example.com", "mailto:help@example.com"}, waiting: waiting{Interaction: "x", ClientID: "printer"}, Back: "/", BackText: text("upstream.another-way")}),
	"upstream-link-needed": sampleUpstreamError("link-needed", upstreamErrorView{Back: "/", BackText: text("upstream.another-way")}),
	"upstream-no-account":  sampleUpstreamError("no-account", upstreamErrorView{Contact: &contactView{Text: "the help desk on the second floor"}, Back: "/", BackText: text("upstream.another-way")}),
	"upstream-taken":       sampleUpstreamError("taken", upstreamErrorView{Back: "/", BackText: text("common.back-to-account")}),
	"upstream-unavailable": sampleUpstreamError("unavailable", upstreamErrorView{Start: "/", Provider: &sampleProviders.Providers[0], Reference: "k7f2m9qx4t", Back: "/", BackText: text("upstream.another-way"), waiting: waiting{Interaction: "x", ClientID: "printer"}}),
	"upgrade":              {template: "upgrade", title: text("upgrade.title"), passkeys: true, data: upgradeView{Passkey: &passkeyView{}, Next: "#"}},
}

var sampleProviders = providersView{Start: "/", Providers: []providerView{{"corp", "Example Corp", "/logo.png"}, {"university", "University of Applied Sciences and Arts", ""}}}

func sampleUpstreamError(key string, v upstreamErrorView) pageResponse {
	say := func(part string) *messages.Text {
		return text("error.upstream-"+key+"."+part, "provider", "Example Corp")
	}
	v.Title, v.Happened, v.Next = say("title"), say("happened"), say("next")
	return pageResponse{template: "upstream-error", title: v.Title, data: v}
}

// TestEveryPageHasASample: a page without a sample would be in no picture and in none of the tests of
// accessibility.
func TestEveryPageHasASample(t *testing.T) {
	shown := map[string]bool{}
	for _, page := range samplePages {
		shown[page.template] = true
	}
	for name := range pageData {
		if !shown[name] {
			t.Errorf("no page of samplePages uses the template %s", name)
		}
	}
}

func sampleQR() qrCode {
	code, err := drawQR("otpauth://totp/Example:alice@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Example")
	if err != nil {
		panic(err)
	}
	return code
}

func servePages(t *testing.T, pages map[string]pageResponse) http.Handler {
	w := newWorld(t)
	assets := w.ui.Handler(nil)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "logo.png" {
			_, _ = rw.Write(logoPicture())
			return
		}
		page, ok := pages[name]
		if !ok {
			assets.ServeHTTP(rw, r)
			return
		}
		language := messages.Match(r.URL.Query().Get(localesParam))
		if language == nil {
			language = messages.English
		}
		if err := w.ui.write(rw, language, "", page); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// logoPicture returns a transparent picture in two colors.
func logoPicture() []byte {
	picture := image.NewNRGBA(image.Rect(0, 0, 96, 64))
	for x := range 96 {
		for y := range 64 {
			switch {
			case (x-32)*(x-32)+(y-32)*(y-32) < 900:
				picture.Set(x, y, color.NRGBA{R: 0x20, G: 0x40, B: 0xc0, A: 0xff})
			case x > 60 && y > 20 && y < 44:
				picture.Set(x, y, color.NRGBA{R: 0x10, G: 0x10, B: 0x10, A: 0xff})
			}
		}
	}
	var b bytes.Buffer
	_ = png.Encode(&b, picture) // into memory
	return b.Bytes()
}
