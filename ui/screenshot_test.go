package ui

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
)

var screenshots = flag.String("screenshots", "", "take a picture of every page into this `directory`")

// TestScreenshots takes a picture of every page on a phone and a desktop, in the light and the
// dark color scheme.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots directory")
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := chromium.Start(t, 3*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	for name := range samplePages {
		for _, size := range [][2]int64{{390, 844}, {1280, 800}, {320, 640}} {
			for _, scheme := range []string{"light", "dark"} {
				if size[0] == 320 && scheme == "dark" {
					continue
				}
				err := chromedp.Do(ctx,
					chromium.Scheme(scheme),
					chromedp.EmulateViewport(size[0], size[1]),
					chromedp.Navigate(server.URL+"/"+name),
				)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				overflow, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if overflow > 0 {
					t.Errorf("%s is %d pixels too wide for %d", name, overflow, size[0])
				}
				width := map[int64]string{390: "phone", 1280: "desktop", 320: "narrow"}[size[0]]
				if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+width+"-"+scheme+".png"), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

var alice = &identity.User{ID: "a", Username: "alice", Claims: map[string]any{"name": "Alice Liddell", "email": "alice@example.com"}}

// samplePages are all pages with sample data.
var samplePages = map[string]pageResponse{
	"sign-in":       {template: "sign-in", title: "Sign in", data: signInView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignUp: "/", Forgot: "/"}},
	"sign-in-wrong": {template: "sign-in", title: "Sign in", data: signInView{ClientName: "Photo Printer", Identifier: "alice@example.com", Alert: "Incorrect username or password.", Continue: "/"}},
	"consent": {template: "consent", title: "Allow Photo Printer?", data: consentView{
		ClientName: "Photo Printer", Initial: "P", Website: "printer.example.com", Destination: "app.printer.example.com", Person: person(alice),
		Wanted: []scopeView{{Words: "See your photos"}, {Words: "photos.write", Plain: true}, {Words: "Add photos to your albums", Optional: true}, {Words: "Keep this access when you are not using the application"}},
		Before: []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "See your email address", Optional: true, Ticked: true}}, Resources: []string{"Photo library"},
		PolicyURI: "https://printer.example.com/privacy", TOSURI: "https://printer.example.com/terms",
	}},
	"consent-native": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "photo-cli", Initial: "P", Destination: "an application on this device (127.0.0.1:53112)", Native: true, Person: person(&identity.User{Username: "bob"}),
		Wanted: []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "See your profile, such as your name and picture", Optional: true, Ticked: true}},
	}},
	"consent-unvouched": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Photo Printer", Initial: "P", Logo: "/logo.png", Website: "printer.example.com", Destination: "app.printer.example.com", Person: person(alice), Unvouched: true,
		Wanted:    []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "See your email address", Optional: true, Ticked: true}},
		PolicyURI: "https://printer.example.com/privacy", TOSURI: "https://printer.example.com/terms",
	}},
	"consent-document": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Example MCP Client", Initial: "E", Publisher: "app.example.com", Unvouched: true, Newcomer: true, FirstTime: true, Person: person(alice),
		Destination: "an application on this device (localhost:3118)", Native: true, Resources: []string{"Files"},
		Wanted: []scopeView{{Words: "Read your files"}, {Words: "Keep this access when you are not using the application", Optional: true, Ticked: true}},
	}},
	"consent-document-web": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Example MCP Client", Initial: "E", Publisher: "app.example.com", Unvouched: true, FirstTime: true, Person: person(alice),
		Destination: "callbacks.example.net", Resources: []string{"Files"}, Wanted: []scopeView{{Words: "Read your files"}},
	}},
	"error-document": {template: "error", title: "Unknown", data: errorView{errorText: errorTexts[authserver.PageClientDocument], Reference: "k7f2m9qx4t", Code: string(authserver.PageClientDocument), Description: "the document at client_id cannot be fetched, or does not describe a client that could work here"}},
	"consent-device": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Living Room TV", Initial: "L", Website: "tv.example.com", Person: person(alice),
		Device: &deviceRequest{UserCode: "WDJB-MJHT", When: "a minute ago", Address: "198.51.100.23", Elsewhere: true},
		Wanted: []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "See your photos", Optional: true, Ticked: true}},
	}},
	"consent-backchannel": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Corner Bank", Initial: "C", Website: "bank.example.com", Person: person(alice),
		Backchannel: &backchannelRequest{BindingMessage: "W4SCT", When: "less than a minute ago", Expires: "in 5 minutes"}, Details: []string{"Pay 49.90 EUR to Corner Shop"},
		Wanted: []scopeView{{Words: "Sign you in and recognize you when you return"}},
	}},
	"factor":          {template: "factor", title: "Confirm that it is you", data: factorView{Username: "alice", waiting: waiting{Interaction: "x", ClientID: "printer"}, Another: "/", Choices: []factorChoice{{"Authenticator app", "", "/"}, {"Recovery code", "", "/"}}}},
	"confirm":         {template: "confirm", title: "Confirm that it is you", account: alice, data: confirmView{User: alice, Password: true, waiting: waiting{Return: "/account/totp"}, Cancel: "/", Choices: []factorChoice{{"Passkey", "", "/"}}}},
	"approve-allowed": {template: "approve-done", title: "Approved", data: "allowed"},
	"approve-denied":  {template: "approve-done", title: "Denied", data: "denied"},
	"approve-later":   {template: "approve-done", title: "Not decided", data: "later"},
	"approve-gone":    {template: "approve-done", title: "Nothing to approve", data: "gone"},
	"consent-details": {template: "consent", title: "Allow?", data: consentView{
		ClientName: "Corner Shop", Initial: "C", Website: "shop.example.com", Destination: "shop.example.com", Person: person(alice), Resources: []string{"Payments"},
		Details: []string{"Pay 123.50 EUR to Merchant A, account DE02100100109307118603", strings.Repeat("x", 200)},
	}},
	"device":            {template: "device", title: "Connect a device", data: deviceView{}},
	"device-wrong":      {template: "device", title: "Connect a device", data: deviceView{UserCode: "WDJB-MJHX", Alert: "This code is not valid or has expired. Compare it with the code on your device. If they match, request a new code there."}},
	"device-allowed":    {template: "device-done", title: "Connected", data: true},
	"device-denied":     {template: "device-done", title: "Not connected", data: false},
	"sign-up":           {template: "sign-up", title: "Create an account", data: signUpView{ClientName: "Photo Printer", waiting: waiting{Interaction: "x", ClientID: "printer"}, SignIn: "/"}},
	"sign-up-taken":     {template: "sign-up", title: "Create an account", data: signUpView{newPersonView: newPersonView{Username: "alice", Alert: "That username or email address is already taken.", NameBad: true}, SignIn: "/"}},
	"forgot":            {template: "forgot", title: "Forgot your password?", data: forgotView{SignIn: "/"}},
	"forgot-busy":       {template: "forgot", title: "Forgot your password?", data: forgotView{SignIn: "/", Identifier: "alice", Alert: tooManyMessages(12 * time.Minute)}},
	"reset-code":        {template: "reset", title: "Choose a new password", data: resetView{Request: "x", AskCode: true, Again: "/"}},
	"reset-code-wrong":  {template: "reset", title: "Choose a new password", data: resetView{Request: "x", AskCode: true, Again: "/", Alert: wrongCode, CodeBad: true}},
	"reset-link":        {template: "reset", title: "Choose a new password", data: resetView{Token: "x", Username: "alice", Again: "/"}},
	"reset-other":       {template: "reset", title: "Choose a new password", data: resetView{Token: "x", AskCode: true, Again: "/"}},
	"reset-done":        {template: "done", title: "Your password has been changed", data: doneView{Text: "You have been signed out everywhere. Sign in with your new password.", Button: "Sign in", Next: "/"}},
	"email":             {template: "email", title: "Your email address", account: alice, data: emailView{User: alice, NeedPassword: true}},
	"email-wrong":       {template: "email", title: "Your email address", account: alice, data: emailView{User: alice, NeedPassword: true, Email: "alice@example", Alert: "Email: use an address of the form name@example.com.", EmailBad: true}},
	"email-code":        {template: "email-code", title: "Confirm your email address", account: alice, data: emailView{User: alice, Request: "x"}},
	"confirm-email":     {template: "confirm-email", title: "Confirm your email address", data: confirmEmailView{Email: "alice@example.com", Token: "x"}},
	"confirm-elsewhere": {template: "confirm-email", title: "Confirm your email address", data: confirmEmailView{Email: "alice@example.com", Code: "1234 5678"}},
	"undo-email":        {template: "undo-email", title: "Undo the change", data: undoEmailView{"alice@example.com", "x"}},
	"sign-up-email":     {template: "sign-up-email", title: "Create an account", data: signUpView{ClientName: "Photo Printer", SignIn: "/"}},
	"sign-up-code":      {template: "sign-up", title: "Create an account", data: signUpView{Request: "x", AskCode: true, newPersonView: newPersonView{NoEmail: true}, SignIn: "/"}},
	"sign-up-invited":   {template: "sign-up", title: "Create an account", data: signUpView{Invitation: "x", Proven: "erin@example.com", newPersonView: newPersonView{NoEmail: true}, SignIn: "/"}},
	"sign-up-closed":    {template: "sign-up-closed", title: "Create an account", data: signUpView{SignIn: "/"}},
	"link-over":         {template: "error", title: "Over", data: errorView{errorText: errorTexts[pageLinkOver]}},
	"select-account":    {template: "select-account", title: "Choose an account", data: selectAccountView{ClientName: "Photo Printer", Person: person(alice), Another: "/"}},
	"sign-out":          {template: "sign-out", title: "Sign out", data: signOutView{ClientName: "Photo Printer", Person: person(alice)}},
	"sign-out-told": {template: "sign-out", title: "Sign out", data: signOutView{
		Person:       person(alice),
		Applications: []signedInView{{"Photo Printer", "P"}, {"The Notes of a Whole Department, Shared", "T"}, {"Calendar", "C"}}, Staying: []string{"Old Wiki", "Time Sheets"},
	}},
	"signed-out":    {template: "signed-out", title: "You are signed out", data: signedOutView{}},
	"signed-out-on": {template: "signed-out", title: "You are signed out", data: signedOutView{ContinueTo: "#", Host: "app.printer.example.com"}},
	"account": {template: "account", title: "Your account", account: alice, data: accountView{
		User: alice, Person: person(alice), Notice: notices["revoked"], Email: &emailState{Address: "alice@example.com", Verified: true, Pending: "alice.liddell@example.org"},
		Approvals: []approvalView{
			{backchannelRequest{"W4SCT", "less than a minute ago", "in 5 minutes"}, "1", "Corner Bank", "C", []scopeView{{Words: "Sign you in and recognize you when you return"}}, []string{"Pay 49.90 EUR to Corner Shop"}},
			{backchannelRequest{"", "2 minutes ago", "in 90 seconds"}, "2", "Call Center of the Department of Long Names", "C", []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "See your email address"}}, nil},
		},
		Applications: []applicationView{
			{Grants: []string{"1"}, Name: "Calendar", Initial: "C", Website: "calendar.example.com", Open: "https://calendar.example.com/sign-in", Since: moment{time.Date(2026, time.February, 3, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: "Sign you in and recognize you when you return"}, {Words: "calendar.read", Plain: true}}},
			{Grants: make([]string, 37), Name: "Coding Agent", Initial: "C", Since: moment{time.Date(2026, time.February, 20, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: "See your notes"}}},
			{Grants: []string{"2"}, Name: "Photo Printer", Initial: "P", Since: moment{time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC), false}, Scopes: []scopeView{{Words: "See your photos"}, {Words: "Keep this access when you are not using the application"}}},
		},
		Sessions: []sessionView{
			{Browser: "Firefox on Linux", Remote: "192.0.2.17", Since: moment{time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC), true}, This: true},
			{Browser: "Safari on iPhone", Remote: "2001:db8:4:1::20", Since: moment{time.Date(2026, time.February, 27, 7, 31, 0, 0, time.UTC), true}},
		},
	}},
	"account-empty":  {template: "account", title: "Your account", account: alice, data: accountView{User: alice, Person: person(alice), Email: &emailState{}, Sessions: []sessionView{{Browser: "Chrome on Windows", Remote: "192.0.2.17", Since: moment{time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC), true}, This: true}}}},
	"password":       {template: "password", title: "Change your password", account: alice, data: passwordView{User: alice}},
	"password-wrong": {template: "password", title: "Change your password", account: alice, data: passwordView{User: alice, Alert: "Your current password is incorrect.", CurrentBad: true}},
	"setup":          {template: "setup", title: "Set up", data: setupView{}},
	"error-redirect": {template: "error", title: "We stopped", data: errorView{errorText: errorTexts[authserver.PageRedirectURI], Reference: "k7f2m9qx4t", Code: string(authserver.PageRedirectURI), Description: "the redirect_uri is not registered for this client", ClientName: "Photo Printer"}},
	"error-expired":  {template: "error", title: "Expired", data: errorView{errorText: errorTexts[authserver.PageExpired], Application: "https://printer.example.com/", ApplicationName: "Photo Printer", Reference: "k7f2m9qx4t"}},
	"error-canceled": {template: "error", title: "Canceled", data: errorView{errorText: errorTexts[oauth.AccessDenied]}},
	"error-cookies":  {template: "error", title: "No cookies", data: errorView{errorText: errorTexts[pageNoCookies]}},
	"error-server":   {template: "error", title: "Wrong", data: errorView{errorText: errorTexts[oauth.ServerError], Reference: "k7f2m9qx4t"}},
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
		if err := w.ui.write(rw, page); err != nil {
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
