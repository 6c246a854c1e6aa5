package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/console"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

// artifacts is where the pictures of the pages are kept.
const artifacts = "../test/artifacts/console"

// hostile is text that would run a script, break a page, or hide what is true, if a page did not escape it.
const hostile = `"><script>document.title="ran"</script><img src=x onerror="document.title='ran'">{{.}}` + "\u202egnp.exe"

// hostileWorld has hostile text in every field that the server accepts it in.
func hostileWorld(t *testing.T) (w *world, userID string) {
	w = start(t)
	w.addUsual(t)
	ctx := t.Context()
	user, err := w.root.CreateUser(ctx, &api.UserMembers{Username: "mallory", Claims: map[string]any{
		"name": hostile, "email": "mallory@example.com", "website": `javascript:document.title="ran"`, "nickname": strings.Repeat("x", 3000),
		hostile: hostile, "address": map[string]any{"formatted": hostile},
	}}, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	client := &api.NewClient{ID: "mallory"}
	client.ClientName, client.RedirectURIs, client.Scope = hostile, []string{"https://mallory.example.com/callback?%3Cscript%3E"}, "openid profile email"
	client.TokenEndpointAuthMethod, client.GrantTypes = oauth.AuthMethodNone, []string{oauth.GrantTypeAuthorizationCode}
	if _, err := w.root.CreateClient(ctx, client, api.Change{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.root.CreateScope(ctx, "mallory", &api.ScopeMembers{Description: hostile, Claims: []string{hostile}}, api.Change{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.root.CreateResource(ctx, "https://mallory.example.com/", &api.ResourceMembers{Name: hostile, IntrospectionClients: []string{"mallory"}}, api.Change{}); err != nil {
		t.Fatal(err)
	}
	w.failMessage(t, hostile, hostile)
	if _, err := w.root.CreateRecording(ctx, api.NewRecording{ClientID: "mallory", Subject: user.ID}, api.Change{}); err != nil {
		t.Fatal(err)
	}
	stranger := newBrowser(t, w.url)
	stranger.get("/authorize?" + url.Values{"client_id": {"mallory"}, "response_type": {"code"}, "redirect_uri": {"javascript:document.title='ran'//" + hostile}, "state": {hostile}}.Encode()).want(http.StatusBadRequest)
	stranger.get("/authorize?" + url.Values{"client_id": {hostile}, "response_type": {hostile}, "scope": {hostile}}.Encode()).want(http.StatusBadRequest)
	r, err := http.NewRequest(http.MethodPost, w.url+"/sign-in", strings.NewReader(url.Values{"identifier": {hostile}, "password": {hostile}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", w.url)
	r.Header.Set("User-Agent", hostile[:60])
	stranger.do(r)
	return w, user.ID
}

// addUsual adds what most servers have, next to which hostile text is shown.
func (w *world) addUsual(t *testing.T) {
	t.Helper()
	for _, name := range []string{"Ada Lovelace", "Grace Hopper", "Radia Perlman"} {
		first, _, _ := strings.Cut(strings.ToLower(name), " ")
		if _, err := w.root.CreateUser(t.Context(), &api.UserMembers{Username: first, Claims: map[string]any{"name": name, "email": first + "@example.com"}}, api.Change{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Grafana", "Nextcloud", "Wiki"} {
		client := &api.NewClient{ID: strings.ToLower(name)}
		client.ClientName, client.RedirectURIs, client.Scope = name, []string{"https://" + client.ID + ".example.com/callback"}, "openid profile email"
		if _, err := w.root.CreateClient(t.Context(), client, api.Change{}); err != nil {
			t.Fatal(err)
		}
	}
}

// addresses returns the pages to open, with what they show.
func addresses(t *testing.T, w *world, userID string) []string {
	found, err := w.root.Explanations(t.Context(), api.List{})
	if err != nil || len(found.Explanations) == 0 {
		t.Fatalf("no refusals: %v", err)
	}
	var all []string
	for _, path := range console.Paths() {
		switch {
		case path == "/console/client" || strings.HasPrefix(path, "/console/client/"):
			path += "?id=mallory"
		case path == "/console/recipe":
			path += "?id=grafana"
		case path == "/console/scope" || path == "/console/scope/delete":
			path += "?id=mallory"
		case path == "/console/resource" || path == "/console/resource/delete":
			path += "?id=https://mallory.example.com/"
		case path == "/console/user" || strings.HasPrefix(path, "/console/user/"):
			path += "?id=" + userID
		case path == "/console/explanation":
			path += "?id=" + found.Explanations[0].Ref
		case path == "/console/preview":
			path += "?client_id=mallory&user=mallory"
		}
		all = append(all, path)
	}
	return append(all, "/console/user?id="+w.rootID, "/console/explanations?"+url.Values{"q": {hostile}}.Encode(),
		"/console/preview?"+url.Values{"client_id": {hostile}, "user": {hostile}, "scope": {hostile}}.Encode(), "/console/audit?"+url.Values{"actor": {hostile}}.Encode())
}

// signedIn returns a browser in which the administrator has signed in.
func signedIn(t *testing.T, w *world) context.Context {
	t.Helper()
	ctx := chromium.Start(t, 5*time.Minute)
	err := chromedp.Do(ctx, chromedp.Navigate(w.url+"/console"),
		chromedp.SetValue("#identifier", "root"), chromedp.SetValue("#password", password))
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.Submit("#password"), chromedp.WaitVisible("body.console")); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// watch counts violations of the Content-Security-Policy from the beginning of each page.
const watch = `window.reports = []; document.addEventListener("securitypolicyviolation", (e) => reports.push(e.violatedDirective + " " + e.blockedURI))`

func TestNothingInARecordRunsInTheConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	source := chromium.Axe(t)
	w, userID := hostileWorld(t)
	ctx := signedIn(t, w)
	if err := chromedp.Do(ctx, chromium.OnNewDocument(watch)); err != nil {
		t.Fatal(err)
	}
	taken := map[string]int{}
	for i, address := range addresses(t, w, userID) {
		path, _, _ := strings.Cut(strings.TrimPrefix(address, "/"), "?")
		taken[path]++
		name := fmt.Sprintf("%s-%d", strings.ReplaceAll(path, "/", "-"), taken[path])
		for j, shape := range []chromium.Shape{chromium.PhoneLight, chromium.DesktopDark, chromium.PhoneDark, chromium.DesktopLight} {
			err := shape.Show(ctx)
			if err == nil {
				err = chromedp.Do(ctx, chromedp.Navigate(w.url+address))
			}
			if err == nil {
				err = shape.Picture(ctx, artifacts, name)
			}
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			state, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify([document.title === "ran", reports.join(), document.body.className, document.querySelectorAll("main script, main img, main [onerror]").length])`))
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			if state != `[false,"","console",0]` {
				t.Errorf("%s, %s: script ran, CSP reports, class, elements: %s", address, shape.Name, state)
			}
			fits(t, ctx, address+", "+shape.Name)
			if shape == chromium.PhoneDark {
				if err := chromium.Narrow.Show(ctx); err != nil {
					t.Fatalf("%s: %v", address, err)
				}
				fits(t, ctx, address+", narrow")
			}
			if j != i%2 { // axe takes half a second: a page is tested in one of two shapes
				continue
			}
			found, err := chromium.AxeFindings(ctx, source)
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			for _, f := range found {
				t.Errorf("%s, %s: %s", address, shape.Name, f)
			}
		}
	}
}

// clipped returns what is cut off: what is wider than its element shows, except for texts that only screen
// readers need, and fields, whose text can be scrolled.
const clipped = `[...document.querySelectorAll("main *")].filter((e) => {
	const style = getComputedStyle(e);
	return e.checkVisibility() && e.clientWidth > 1 && style.overflowX !== "visible" && style.display !== "inline" && e.scrollWidth > e.clientWidth + 1 &&
		!e.closest(".unseen, thead, input, textarea, select, pre");
}).map((e) => e.outerHTML.slice(0, 120)).join("\n")`

// fits fails if a part of the page that is open is cut off or would have to be scrolled sideways.
func fits(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	overflow, err := chromium.Overflow(ctx)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if overflow > 0 {
		t.Errorf("%s: %d pixels too wide", name, overflow)
	}
	cut, err := chromedp.Run(ctx, chromedp.Evaluate[string](clipped))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if cut != "" {
		t.Errorf("%s: cut off:\n%s", name, cut)
	}
}

// TestTablesOnAPhone: a row is a card with labeled values, and still a row of a table for screen readers.
func TestTablesOnAPhone(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	w := start(t)
	ctx := signedIn(t, w)
	err := chromedp.Do(ctx, chromedp.Navigate(w.url+"/console/users"))
	if err == nil {
		err = chromium.PhoneLight.Show(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	layout, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(() => {
		const cell = document.querySelector("td[data-label=Role]");
		return getComputedStyle(cell.parentElement).display + " " + getComputedStyle(cell, "::before").content;
	})()`))
	if want := `block "Role" / ""`; err != nil || layout != want {
		t.Errorf("a row and the label of a value: %s, %v, want %s", layout, err, want)
	}
	tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]int{}
	for _, node := range tree.Nodes {
		if !node.Ignored && node.Role != nil {
			roles[strings.Trim(string(node.Role.Value), `"`)]++
		}
	}
	for role, want := range map[string]int{"table": 1, "row": 2, "columnheader": 5, "rowheader": 1, "cell": 4} {
		if roles[role] != want {
			t.Errorf("%d elements have the role %s, want %d", roles[role], role, want)
		}
	}
}

// Reading and changing need no scripts.
func TestTheConsoleNeedsNoScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	w := start(t)
	ctx := signedIn(t, w)
	err := chromedp.Do(ctx, chromium.Scripts(false), chromedp.Navigate(w.url+"/console/clients/new"),
		chromedp.SendKeys("#client_name", "Notes"), chromedp.SendKeys("#redirect_uris", "https://notes.example.com/callback"),
		chromedp.Click("main form button.primary"), chromedp.WaitVisible("#new-secret"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.root.Clients(t.Context(), api.List{})
	if err != nil || len(found.Clients) == 0 || found.Clients[0].ClientName != "Notes" {
		t.Fatalf("clients %v, %v", found, err)
	}
}
