package authserver

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// complete returns to the client what its response_type asks for, and ends the interaction: a
// code (RFC 6749, section 4.1.2), tokens (section 4.2.2; OpenID Connect Core, section 3.2.2.5),
// or both (section 3.3.2.5).
func (c *call) complete(i *interaction, who *Authentication, grant *record.Grant) error {
	request := i.request
	if err := c.useClient(); err != nil {
		return err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	if request.client.SkipConsent && (grant == nil || len(request.details) > 0 || !grant.Scope.Covers(request.consent) || !catalogue.covers(request.client, grant, request.audience)) {
		if grant, err = c.putGrant(catalogue, request, who.Subject, request.consent); err != nil {
			return err
		}
	}
	claims := catalogue.grantedClaims(request.claims, grant.Scope)
	acr, _ := c.reportedACR(request, who.ACR)
	a := authorization{
		ClientID: request.client.ID, Subject: who.Subject, Grant: grant.ID, Family: newFamily(c.now),
		Scope: request.scope.Intersect(grant.Scope), Resources: request.resources, Details: request.details, Session: who.Session,
		AuthTime: who.Time.Unix(), ACR: acr, AMR: who.AMR, Claims: claims, ClaimsLocales: request.claimsLocales, Started: c.now.Unix(), Issued: c.now.UnixMilli(),
	}
	if !request.client.SkipConsent {
		a.Audience = request.audience
	}
	if i.device != nil {
		return c.approveDevice(i, a)
	}
	if i.backchannel != nil {
		return c.approveBackchannel(i, a)
	}
	if i.challenge != nil {
		return c.completeChallenge(catalogue, i, a)
	}
	var response params
	var put []storage.Ticket
	code, ticket, sealed, err := c.newSealedCode(a, request)
	if err == nil && !sealed {
		code, ticket, err = c.newCode(a, request, c.longestAccessToken(catalogue, request.client))
	}
	if err != nil {
		return err
	}
	if request.responseType.Code {
		response = append(response, param{"code", code})
	}
	// An access token belongs to the code's ticket, so the ticket is stored even if the client
	// does not get the code.
	if !sealed && (request.responseType.Code || request.responseType.Token) {
		put = append(put, ticket)
	}
	if request.responseType.FrontChannel() {
		if !request.responseType.Code {
			code = ""
		}
		ent := &entitlement{authorization: a, scope: a.Scope, resources: a.Resources, details: a.Details, nonce: request.nonce, code: ticket.Key}
		if request.client.profile.stateHash.applies() {
			ent.state = request.state
		}
		tokens, stored, err := c.frontChannelTokens(catalogue, request, ent, code)
		if err != nil {
			return err
		}
		response, put = append(response, tokens...), append(put, stored...)
	}
	// The first response to a client in a session is recorded in the same operation. If another
	// node has recorded it already, ErrExists says so.
	participation, first, err := c.participation(who, a.Scope)
	if err != nil {
		return err
	}
	if first {
		err = c.endInteraction(i, append(slices.Clone(put), participation))
	}
	if !first || errors.Is(err, storage.ErrExists) {
		err = c.endInteraction(i, put)
	}
	if err != nil {
		return err
	}
	if first {
		c.s.participating.put(participation.Key, struct{}{})
	}
	if request.responseType.FrontChannel() { // for a code, this is checked when it is redeemed
		valid, err := c.consentValid(&a)
		if err != nil {
			return err
		}
		if !valid {
			return c.refuseAuthorization(request, c.refuse(&ruleNotRefused, "the consent was withdrawn at the same moment"))
		}
	}
	if state := c.sessionState(request, who); state != "" {
		response = append(response, param{"session_state", state})
	}
	if request.responseType.Code && !sealed {
		c.s.issued.put(ticket.Key, ticket)
	}
	c.redirectURIUsed(request, a.Subject)
	return c.respond(request, c.authorizationResponse(request, response...))
}

// redirectURIUseLifetime is how long the last use of a redirect URI by a user is kept.
const redirectURIUseLifetime = 90 * 24 * time.Hour

// redirectURIUsed notes that a response is sent to a redirect URI, for operators who want to remove it.
func (c *call) redirectURIUsed(request *authorizationRequest, subject string) {
	owner, name := record.RedirectURIUse(request.client.ID, request.to.registered, subject)
	c.s.uses.Record(storage.Use{Owner: owner, Name: name, At: c.now, Expires: c.now.Add(redirectURIUseLifetime)})
}

// newCode returns a code that is stored, and its ticket.
func (c *call) newCode(a authorization, request *authorizationRequest, accessToken time.Duration) (string, storage.Ticket, error) {
	a.Code = c.newCodeBinding(request)
	code := newSecret(prefixCode, c.now)
	ticket, err := a.ticket(secretKey(ticketkind.Code, prefixCode, code), codeTicketExpires(&a, accessToken))
	return code, ticket, err
}

func (c *call) newCodeBinding(request *authorizationRequest) *codeBinding {
	return &codeBinding{
		RedirectURI: request.to.uri, RedirectURISent: request.redirectURISent,
		CodeChallenge: request.codeChallenge, JWKThumbprint: request.jwkThumbprint, Nonce: request.nonce,
		Expires: c.now.Add(request.client.profile.codeLifetime.limit(c.s.lifetimes.AuthorizationCode)).UnixMilli(),
	}
}

// codeTicketExpires returns how long the spent ticket of a code is kept: as long as the tokens that
// were issued for the code. A replay of the code revokes them, and they may be valid only while the
// ticket exists (accesstoken.go).
func codeTicketExpires(a *authorization, accessToken time.Duration) time.Time {
	return time.UnixMilli(a.Code.Expires).Add(accessToken + time.Minute)
}

// frontChannelTokens issues the tokens that the authorization response contains.
func (c *call) frontChannelTokens(catalogue *catalogue, request *authorizationRequest, ent *entitlement, code string) (params, []storage.Ticket, error) {
	ctx := c.r.Context()
	var response params
	var put []storage.Ticket
	token := &oauth.TokenResponse{}
	if request.responseType.Token {
		var err error
		if token, put, err = c.issueAccessToken(ctx, catalogue, ent); err != nil {
			return nil, nil, err
		}
		response = params{
			{"access_token", token.AccessToken}, {"token_type", token.TokenType},
			{"expires_in", strconv.FormatInt(token.ExpiresIn, 10)},
		}
		if token.Scope != "" {
			response = append(response, param{"scope", token.Scope})
		}
	}
	if request.responseType.IDToken {
		idToken, err := c.issueIDToken(ctx, ent, token.AccessToken, code)
		if err != nil {
			return nil, nil, err
		}
		response = append(response, param{"id_token", idToken})
	}
	return response, put, nil
}

// endInteraction ends the interaction, and stores the tickets of the response in the same
// operation.
func (c *call) endInteraction(i *interaction, put []storage.Ticket) error {
	var err error
	var spent []storage.Key
	if i.id != "" {
		spent = append(spent, ticketkind.Interaction.Hash(i.id))
	}
	if i.ticket != nil {
		spent = append(spent, i.ticket.key)
	}
	if len(spent) > 0 {
		err = c.s.config.Store.Spend(c.r.Context(), c.now, spent, put...)
	} else if len(put) > 0 {
		err = c.s.config.Store.Put(c.r.Context(), c.now, put...)
	}
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleInteraction) // a double click: the other request got the response
	}
	if err != nil {
		return fmt.Errorf("store authorization response: %w", err)
	}
	if i.ticket != nil {
		c.endPushedRequest(i.request.client, i.ticket)
	}
	return nil
}

// responseMode is a way to return the authorization response (OAuth 2.0 Multiple Response Type
// Encoding Practices, section 2.1; OAuth 2.0 Form Post Response Mode; JARM, section 2.3).
type responseMode struct {
	name  string
	write func(c *call, to redirectTarget, response params) error
}

func responseModes() []responseMode {
	return []responseMode{
		{"query", (*call).respondInQuery},
		{"fragment", (*call).respondInFragment},
		{"form_post", (*call).respondByForm},
		{"query" + jwtSuffix, (*call).respondInQuery},
		{"fragment" + jwtSuffix, (*call).respondInFragment},
		{"form_post" + jwtSuffix, (*call).respondByForm},
	}
}

// responseModeNames returns the values of response_mode.
func responseModeNames() []string {
	var names []string
	for _, m := range responseModes() {
		names = append(names, m.name)
	}
	return append(names, modeJWT)
}

// redirectTarget is a verified redirect URI of the client. Only verifyRedirectURI creates one,
// and the functions below that redirect require one, so that a redirect to any other URI does
// not compile.
type redirectTarget struct {
	uri  string
	mode string
	// registered is the redirect URI of the client that uri matches; they differ in the port of a
	// loopback address (RFC 8252, section 7.3).
	registered string
}

// respond sends the browser back to the client with the response.
func (c *call) respond(request *authorizationRequest, response params) error {
	to := request.to
	if isJWTMode(to.mode) {
		var err error
		if response, err = c.inJWT(request.client, response); err != nil {
			return err
		}
	}
	for _, m := range responseModes() {
		if m.name == to.mode {
			return m.write(c, to, response)
		}
	}
	return fmt.Errorf("respond: no response mode %q", to.mode)
}

func (c *call) respondInQuery(to redirectTarget, response params) error {
	var b strings.Builder
	b.Grow(len(to.uri) + len("?") + response.size())
	b.WriteString(to.uri)
	b.WriteString(querySeparator(to.uri))
	response.appendTo(&b)
	c.redirect(b.String())
	return nil
}

// querySeparator returns what joins a URI and further query parameters.
func querySeparator(uri string) string {
	switch {
	case !strings.Contains(uri, "?"):
		return "?"
	case strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&"):
		return ""
	}
	return "&"
}

func (c *call) respondInFragment(to redirectTarget, response params) error {
	c.redirect(to.uri + "#" + response.encode())
	return nil
}

// redirect responds with 303, so that a browser that posted a password does not post it again
// to the new location (RFC 9700, section 4.12).
func (c *call) redirect(location string) {
	noStore(c.w)
	h := c.w.Header()
	h["Referrer-Policy"] = valueNoReferrer
	h["Location"] = []string{location}
	h["Content-Length"] = valueZero
	c.w.WriteHeader(http.StatusSeeOther)
}

// submitScript submits the form_post page. Without scripts, the user presses the button.
const submitScript = `document.forms[0].submit()`

var formPostPage = template.Must(template.New("form_post").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Returning to the application</title></head>
<body><form method="post" action="{{.Action}}">
{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<noscript><p>Press the button to return to the application.</p><button type="submit">Continue</button></noscript>
</form><script>` + submitScript + `</script></body></html>
`))

func (c *call) respondByForm(to redirectTarget, response params) error {
	type field struct{ Name, Value string }
	page := struct {
		Action template.URL // verified: it is a registered redirect URI
		Fields []field
	}{Action: template.URL(to.uri)}
	for _, p := range response {
		page.Fields = append(page.Fields, field{p.name, p.value})
	}
	var b strings.Builder
	if err := formPostPage.Execute(&b, page); err != nil {
		return fmt.Errorf("write form_post page: %w", err)
	}
	hash := sha256.Sum256([]byte(submitScript))
	h := c.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; form-action "+formAction(to.uri)+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	if c.s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	noStore(c.w)
	writeBytes(c.w, http.StatusOK, "text/html; charset=utf-8", []byte(b.String()))
	return nil
}

// formAction returns the form-action source that allows a form to redirect to a redirect URI. It
// names the scheme and not the host, because Chromium applies the directive to every further
// redirect of the client too, for example to its own pages on other hosts.
func formAction(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "'none'"
	}
	if host := u.Hostname(); u.Scheme == "http" && (host == "localhost" || host == "127.0.0.1") {
		return "http://127.0.0.1:* http://localhost:*"
	}
	return u.Scheme + ":" // a source cannot name an IPv6 address
}
