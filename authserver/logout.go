package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

var (
	ruleLogoutHint = rule{
		must:    "id_token_hint is an ID token of this server",
		section: "OpenID Connect RP-Initiated Logout, section 2", code: oauth.InvalidRequest,
		says: "id_token_hint is not an ID token that this server issued",
		fix:  "send the ID token that the application received at sign-in",
	}
	ruleLogoutClient = rule{
		must:    "client_id is the audience of id_token_hint",
		section: "OpenID Connect RP-Initiated Logout, section 2", code: oauth.InvalidRequest,
		says: "client_id is not the client that id_token_hint was issued to",
		fix:  "send the client_id of the ID token",
	}
	rulePostLogoutRedirectURI = rule{
		must:    "post_logout_redirect_uri is registered for the client, which id_token_hint or client_id names",
		section: "OpenID Connect RP-Initiated Logout, section 3", code: oauth.InvalidRequest,
		says: "post_logout_redirect_uri is not registered for the client, or no client is named",
		fix:  "register it in post_logout_redirect_uris, and send id_token_hint",
	}
)

// logoutRequest is a verified logout request.
type logoutRequest struct {
	client *client // nil if none is named
	hint   *idTokenHint
	to     redirectTarget // zero: no return
	state  string
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout, section 2).
func (c *call) logout() error {
	// An ID token with many claims can be too long. Then the hint is ignored, and the user is
	// asked, so that they can still sign out.
	c.leftOutIfLong = "id_token_hint"
	if c.r.Method == http.MethodPost {
		return c.postAsGet()
	}
	var err error
	if c.params, err = c.parseParams(c.r.URL.RawQuery); err != nil {
		return err
	}
	c.params = c.withoutReturn(c.params)
	request, err := c.verifyLogout()
	if err != nil {
		return err
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("get the signed-in user: %w", err)
	}
	// A hint with this session proves that the request is from an application that is part of it.
	// Otherwise the user is asked, because any page could send the request.
	if who != nil && !c.hintNamesSession(request, who) {
		return c.sendTo(c.s.config.Pages.SignOut, &interaction{params: c.params}, true)
	}
	if request.to.uri != "" && !c.trusted(request.client) {
		// A hint proves nothing about this browser: anyone who registers a client can get one.
		request.to = redirectTarget{}
	}
	return c.endSession(request, who)
}

// withoutReturn removes post_logout_redirect_uri if the hint was ignored and there is no client_id,
// because then its client is unknown.
func (c *call) withoutReturn(p params) params {
	if !c.leftOut || p.has("client_id") {
		return p
	}
	return slices.DeleteFunc(p, func(sent param) bool { return sent.name == "post_logout_redirect_uri" })
}

// hintNamesSession reports whether id_token_hint was issued in the session of who.
func (c *call) hintNamesSession(r *logoutRequest, who *Authentication) bool {
	return r.hint != nil && r.hint.Session != "" && r.client != nil && r.hint.Subject == c.s.subjectFor(r.client, who.Subject) &&
		slices.ContainsFunc(who.sessionNames(), func(name string) bool { return c.s.sessionFor(r.client, name) == r.hint.Session })
}

func (c *call) verifyLogout() (*logoutRequest, error) {
	request := &logoutRequest{state: c.params.get("state")}
	clientID := c.params.get("client_id")
	if token := c.params.get("id_token_hint"); token != "" {
		hint, err := c.readIDTokenHint(token)
		switch {
		case errors.Is(err, jose.ErrUnknownKey):
			// Signed by a key that has been retired since, or by another issuer: ignored.
		case err != nil:
			return nil, c.because(&ruleLogoutHint, err)
		default:
			request.hint = hint
			if clientID != "" && !hint.Audience.Has(clientID) {
				return nil, c.refuse(&ruleLogoutClient, "client_id: "+clientID)
			}
			if clientID == "" {
				clientID = hint.Audience[0]
			}
		}
	}
	if clientID != "" {
		cl, err := c.namedClient(clientID)
		if err != nil && !errors.Is(err, errUnknownClient) && !errors.Is(err, errClientDocument) {
			return nil, err
		}
		c.client, request.client = cl, cl
	}
	uri := c.params.get("post_logout_redirect_uri")
	if uri == "" {
		return request, nil
	}
	if request.client == nil {
		return nil, c.refuse(&rulePostLogoutRedirectURI, "no client is named")
	}
	if !slices.Contains(request.client.PostLogoutRedirectURIs, uri) {
		return nil, c.refuse(&rulePostLogoutRedirectURI, nearestDifference(request.client.PostLogoutRedirectURIs, uri))
	}
	request.to = redirectTarget{uri: uri, mode: "query"}
	return request, c.must(len(request.state) <= maxStateBytes, &ruleStateLength)
}

// endSession signs the browser out and returns to the client. Refresh tokens without
// offline_access end with the session (Users.SessionActive).
func (c *call) endSession(request *logoutRequest, who *Authentication) error {
	frames, err := c.frames(who)
	if err != nil {
		return err
	}
	to := request.to.uri
	if to != "" && request.state != "" {
		to += querySeparator(to) + params{{"state", request.state}}.encode()
	}
	if who != nil {
		if to, err = c.upstreamLogout(to); err != nil {
			return err
		}
		if err := c.s.config.Users.SignOut(c.w, c.r); err != nil {
			return fmt.Errorf("sign out: %w", err)
		}
	}
	return c.signedOut(frames, to)
}

// upstreamLogout returns where the browser goes after the logout: to other providers and from there to
// continueTo, or only to continueTo. It is called before the session ends.
func (c *call) upstreamLogout(continueTo string) (string, error) {
	if c.s.config.SignIn.UpstreamLogout == nil {
		return continueTo, nil
	}
	to, err := c.s.config.SignIn.UpstreamLogout(c.w, c.r, continueTo)
	if err != nil {
		return "", fmt.Errorf("prepare the logout at other providers: %w", err)
	}
	return to, nil
}

// resumeLogout verifies a stored logout request again.
func (c *call) resumeLogout(data *interactionData) (*logoutRequest, error) {
	var err error
	if c.params, err = c.parseParams(data.Query); err != nil {
		return nil, err
	}
	return c.verifyLogout()
}

func (c *call) logoutInteraction(id string, data *interactionData, who *Authentication) (*Interaction, error) {
	request, err := c.resumeLogout(data)
	if err != nil {
		return nil, err
	}
	shown := &Interaction{ID: id, RedirectURI: request.to.uri}
	if request.client != nil {
		shown.Client = request.client.Client
	}
	if request.to.uri != "" {
		shown.FormAction = formAction(request.to.uri)
	}
	if who != nil {
		shown.Subject = who.Subject
	}
	return shown, nil
}

// LoggedOut is called after the user has confirmed a logout. It ends the session (Users.SignOut)
// and writes the response, which returns to the client if the request has a valid
// post_logout_redirect_uri.
func (s *Server) LoggedOut(w http.ResponseWriter, r *http.Request, id string) {
	c := s.newCall(w, r)
	c.endpoint = s.routes[s.basePath+"/logout"]
	c.finish(c.loggedOut(id))
}

func (c *call) loggedOut(id string) error {
	data, err := c.loadInteraction(id)
	if err != nil {
		return c.pageError(err)
	}
	if !data.Logout || data.Ended != nil {
		return c.must(false, &ruleInteraction)
	}
	request, err := c.resumeLogout(data)
	if err != nil {
		return err
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("get the signed-in user: %w", err)
	}
	if err := c.s.config.Store.Delete(c.r.Context(), ticketkind.Interaction.Hash(id)); err != nil {
		return fmt.Errorf("end interaction: %w", err)
	}
	return c.endSession(request, who)
}

// maxFrames is the maximum number of clients that the browser notifies of a logout.
const maxFrames = 20

// frame is a URL with which the browser notifies a client of a logout. It is created when the
// session ends.
type frame struct {
	URL string `json:"u"`
}

// frames returns the frames of the clients of a session that use front-channel logout (OpenID
// Connect Front-Channel Logout, section 3).
func (c *call) frames(who *Authentication) ([]frame, error) {
	if who == nil {
		return nil, nil
	}
	found, err := c.s.participants(c.r.Context(), c.now, who.sessionNames())
	if err != nil {
		return nil, err
	}
	var frames []frame
	for _, p := range found {
		if p.client.FrontchannelLogoutURI != "" && len(frames) < maxFrames {
			frames = append(frames, frame{URL: c.s.frameURL(p.client, p.session)})
		}
	}
	return frames, nil
}

// frameURL always has the session and the issuer, even if the client does not require them, so
// that the client ends no other session (section 2).
func (s *Server) frameURL(cl *client, session string) string {
	return cl.FrontchannelLogoutURI + querySeparator(cl.FrontchannelLogoutURI) +
		url.Values{"iss": {s.config.Issuer}, "sid": {s.sessionFor(cl, session)}}.Encode()
}

// signedOut redirects the browser after a logout: to the client, or to the signed-out page. If the
// browser must notify other clients first, the signed-out page does so and then continues to the
// client. frames and to are determined before the session ends.
func (c *call) signedOut(frames []frame, to string) error {
	c.s.SessionsEnded()
	if len(frames) == 0 && to == "" {
		c.redirect(c.s.basePath + c.s.config.Pages.SignedOut)
		return nil
	}
	if len(frames) == 0 {
		c.redirect(to)
		return nil
	}
	i := &interaction{began: c.now, ended: &endedLogout{Frames: frames, ContinueTo: to}}
	ticket, err := c.interactionTicket(i, true)
	if err != nil {
		return err
	}
	if err := c.s.config.Store.Put(c.r.Context(), c.now, ticket); err != nil {
		return fmt.Errorf("store ended logout: %w", err)
	}
	c.redirect(c.s.basePath + c.s.config.Pages.SignedOut + "?interaction=" + url.QueryEscape(i.id))
	return nil
}

// endedLogout is what the browser must still do after a session has ended.
type endedLogout struct {
	Frames []frame `json:"f"`
	// ContinueTo was verified when the session ended, or is that of another provider.
	ContinueTo string `json:"t,omitempty"`
}

// endedInteraction describes what the signed-out page must do.
func endedInteraction(id string, ended *endedLogout) *Interaction {
	shown := &Interaction{ID: id, ContinueTo: ended.ContinueTo, SignedOut: true}
	for _, f := range ended.Frames {
		shown.Frames = append(shown.Frames, f.URL)
	}
	return shown
}

// SignOut ends the sign-in session of the browser that sent r, without the request of a client, and
// writes the response: the signed-out page. The clients of the session are notified. If end is not
// nil, it is called instead of Users.SignOut, for example to end the user's other sessions too.
func (s *Server) SignOut(w http.ResponseWriter, r *http.Request, end func() error) {
	c := s.newCall(w, r)
	c.endpoint = s.routes[s.basePath+"/logout"]
	c.finish(c.signOut(end))
}

func (c *call) signOut(end func() error) error {
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("get the signed-in user: %w", err)
	}
	frames, err := c.frames(who)
	if err != nil {
		return err
	}
	if end == nil {
		end = func() error { return c.s.config.Users.SignOut(c.w, c.r) }
	}
	to, err := c.upstreamLogout("")
	if err != nil {
		return err
	}
	if err := end(); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return c.signedOut(frames, to)
}

// endedLifetime is how long the page after a logout can be shown again.
const endedLifetime = 5 * time.Minute

// sessionState returns the session_state of a response (OpenID Connect Session Management, section
// 3.2): a hash of the client, the origin of its page, the browser's state and a salt. With it, the
// client's page can find out from the OP iframe below whether the signed-in user has changed. It is
// "" if the client has no page that could use it.
func (c *call) sessionState(request *authorizationRequest, who *Authentication) string {
	if c.s.config.SignIn.BrowserStateCookie == "" || who.BrowserState == "" || !request.scope.Has(oauth.ScopeOpenID) {
		return ""
	}
	u, err := url.Parse(request.to.uri)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	salt := rand.Text()
	var space [512]byte
	b := append(append(space[:0], request.client.ID...), ' ')
	b = append(append(b, originOf(u)...), ' ')
	b = append(append(b, who.BrowserState...), ' ')
	hash := sha256.Sum256(append(b, salt...))
	b = append(hex.AppendEncode(space[:0], hash[:]), '.')
	return string(append(b, salt...))
}

// originOf returns the origin of a page at u as browsers write it (HTML, section 7.1.1): without the
// default port of its scheme.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// checkSessionScript is the script of the OP iframe, which responds with "unchanged", "changed" or
// "error" (section 3.1). It sends no request: the browser's state is in a cookie, which the script
// can read if the browser allows it in frames on other sites.
const checkSessionScript = `"use strict";
const name = "COOKIE" + "=";
const state = () => (document.cookie.split("; ").find((c) => c.startsWith(name)) || name).slice(name.length);
addEventListener("message", async (event) => {
  const answer = (text) => event.source && event.source.postMessage(text, event.origin);
  try {
    const message = /^([\x21-\x7e]{1,512}) ([0-9a-f]{64})\.([0-9A-Za-z]{1,64})$/.exec(event.data);
    if (typeof event.data !== "string" || !message || event.origin === "null") return answer("error");
    const [, client, hash, salt] = message;
    const text = new TextEncoder().encode([client, event.origin, state(), salt].join(" "));
    const digest = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", text)), (b) => b.toString(16).padStart(2, "0")).join("");
    answer(digest === hash ? "unchanged" : "changed");
  } catch {
    answer("error");
  }
});
`

// newCheckSessionPage returns the page of the OP iframe and its Content-Security-Policy.
func newCheckSessionPage(cookie string) (page []byte, policy string) {
	script := strings.Replace(checkSessionScript, "COOKIE", template.JSEscapeString(cookie), 1)
	hash := sha256.Sum256([]byte(script))
	page = []byte(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Session</title></head><body><script>` + script + "</script></body></html>\n")
	policy = "default-src 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors *"
	return page, policy
}

// checkSession serves the OP iframe. It is the only page that other sites may frame: it shows
// nothing, and accepts only a message, to which it responds for the origin of the sender.
func (c *call) checkSession() error {
	if c.s.config.SignIn.BrowserStateCookie == "" {
		return &oauth.Error{Code: oauth.InvalidRequest, Description: "there is no endpoint at this address", Status: http.StatusNotFound}
	}
	h := c.w.Header()
	h.Set("Content-Security-Policy", c.s.checkSessionPolicy)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "public, max-age=3600")
	writeBytes(c.w, http.StatusOK, "text/html; charset=utf-8", c.s.checkSessionPage)
	return nil
}
