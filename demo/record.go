package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

// Message is one exchange between two parties.
type Message struct {
	Number   int
	From, To string
	// Purpose says in a sentence what is sent, and after it why, and which rule protects it.
	Purpose           string
	Request, Response string
	// Checks are the rules that the authorization server or the API checked.
	Checks []record.Check
	// Refusal is the rule that refused the request; nil if none did.
	Refusal *record.Check
}

// Title returns what is sent: the first sentence of the purpose.
func (m Message) Title() string {
	title, _, _ := strings.Cut(m.Purpose, ". ")
	return title
}

// Reason returns the rest of the purpose.
func (m Message) Reason() string {
	_, reason, _ := strings.Cut(m.Purpose, ". ")
	return reason
}

const (
	partyApp     = "application"
	partyBrowser = "browser"
	partyServer  = "authorization server"
	partyAPI     = "API"
)

// recording collects the messages of one walk.
type recording struct {
	mu       sync.Mutex
	messages []Message
}

func (r *recording) add(m Message) { r.fill(r.open(), m) }

// open reserves the number of a message that has been sent: others may be exchanged before
// its response arrives.
func (r *recording) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, Message{})
	return len(r.messages)
}

func (r *recording) fill(number int, m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Number = number
	m.Request, m.Response = indentJSON(m.Request), indentJSON(m.Response)
	r.messages[number-1] = m
}

// indentJSON indents a text that is JSON, or the body of a message that is JSON. Form parameters
// are left as they were sent.
func indentJSON(text string) string {
	head, body, ok := strings.Cut(text, "\n\n")
	if !ok {
		head, body = "", text
	} else {
		head += "\n\n"
	}
	body = strings.TrimSpace(body)
	event, isEvent := strings.CutPrefix(body, "event: message\ndata: ")
	if isEvent {
		head, body = head+"event: message\ndata: ", event
	}
	var indented bytes.Buffer
	if !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") || json.Indent(&indented, []byte(body), "", "  ") != nil {
		return text
	}
	return head + indented.String()
}

// refuse sets the rule that refused the last message, where only the scene knows the rule.
func (r *recording) refuse(rule record.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.messages[len(r.messages)-1]
	m.Refusal, m.Checks = &rule, []record.Check{rule}
}

func (r *recording) all() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// last returns the last message that was refused, or else the last message.
func (r *recording) last() Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range slices.Backward(r.messages) {
		if m.Refusal != nil {
			return m
		}
	}
	if len(r.messages) == 0 {
		return Message{}
	}
	return r.messages[len(r.messages)-1]
}

type recordingKey struct{}

// recordedAs is what a context contains about the messages sent with it.
type recordedAs struct {
	into          *recording
	from, purpose string
}

// recorded returns a context whose requests are added to a recording with the given purpose.
func recorded(ctx context.Context, r *recording, purpose string) context.Context {
	return recordedFrom(ctx, r, partyApp, purpose)
}

// recordedFrom is like recorded for a party other than the application.
func recordedFrom(ctx context.Context, r *recording, from, purpose string) context.Context {
	return context.WithValue(ctx, recordingKey{}, recordedAs{r, from, purpose})
}

// recorder returns the transport of the demo's applications, which records messages.
func (d *Demo) recorder() http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		as, ok := request.Context().Value(recordingKey{}).(recordedAs)
		if !ok {
			return http.DefaultTransport.RoundTrip(request)
		}
		var sent []byte
		if request.Body != nil {
			var err error
			if sent, err = io.ReadAll(request.Body); err != nil {
				return nil, err
			}
			request.Body = io.NopCloser(bytes.NewReader(sent))
		}
		began, number := time.Now(), as.into.open()
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		received, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(received))
		as.into.fill(number, d.describe(as, request, sent, response, received, began))
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (d *Demo) describe(as recordedAs, request *http.Request, sent []byte, response *http.Response, received []byte, began time.Time) Message {
	m := Message{From: as.from, To: partyServer, Purpose: as.purpose}
	if strings.HasSuffix(request.URL.Path, "/jwks") {
		m.Purpose = "Fetch the server's public keys. The app verifies the signature of the ID token with them (OpenID Connect Core, section 3.1.3.7)."
	}
	m.Request = requestText(request, sent)
	m.Response = responseText(response, received)
	if "http://"+request.URL.Host == d.api {
		m.To = partyAPI
		m.Refusal = challengeCheck(response)
		if m.Refusal != nil {
			m.Checks = []record.Check{*m.Refusal}
		}
		return m
	}
	if name, ok := d.parties[request.URL.Host]; ok {
		m.To = name
		if response.Header.Get("WWW-Authenticate") != "" {
			m.Refusal = challengeCheck(response)
			m.Checks = []record.Check{*m.Refusal}
		}
		return m
	}
	if t := d.traces.after(began, request.URL.Path, response.Header.Get("Location")+string(received)); t != nil {
		m.setTrace(t)
	}
	return m
}

func (m *Message) setTrace(t *record.Trace) {
	m.Checks = t.Checks
	for i := range t.Checks {
		if !t.Checks[i].OK {
			m.Refusal = &t.Checks[i]
		}
	}
}

// challengeCheck returns the rule of the API that refused, according to its challenge.
func challengeCheck(response *http.Response) *record.Check {
	if response.StatusCode < 400 {
		return nil
	}
	check := record.Check{Rule: "the API accepts the access token", Section: "RFC 6750, section 3.1"}
	for _, challenge := range oauth.ParseChallenges(response.Header.Get("WWW-Authenticate")) {
		switch oauth.ErrorCode(challenge.Param("error")) {
		case oauth.InvalidToken:
			check = record.Check{Rule: "the access token is valid: signature, issuer, audience, expiry, and the key of a bound token", Section: "RFC 9068, section 4"}
		case oauth.InvalidDPoPProof:
			check = record.Check{Rule: "the proof is signed for this request and this token, and was not used before", Section: "RFC 9449, section 4.3"}
		case oauth.InsufficientScope:
			check = record.Check{Rule: "the access token has the scope that the route requires: " + challenge.Param("scope"), Section: "RFC 6750, section 3.1"}
		}
		check.Detail = challenge.Param("error_description")
	}
	return &check
}

func requestText(r *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: %s\n", r.Method, breakQuery(r.URL.RequestURI()), r.URL.Host)
	for _, name := range []string{"Authorization", dpop.HeaderProof, "Content-Type", "Accept", "Cookie", "Sec-Fetch-Site", resourceserver.TransactionTokenHeader} {
		if value := r.Header.Get(name); value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s", strings.ReplaceAll(string(body), "&", "\n&"))
	}
	return b.String()
}

// breakQuery puts each parameter on its own line.
func breakQuery(uri string) string {
	return strings.NewReplacer("?", "\n  ?", "&", "\n  &").Replace(uri)
}

var titlePattern = regexp.MustCompile(`<h1[^>]*>([^<]*)</h1>`)

func responseText(r *http.Response, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %s\n", r.Status)
	for _, name := range []string{"Content-Type", "Cache-Control", "WWW-Authenticate", "Set-Cookie", "Location"} {
		for _, value := range r.Header.Values(name) {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	var indented bytes.Buffer
	switch {
	case len(body) == 0:
	case json.Indent(&indented, body, "", "  ") == nil:
		fmt.Fprintf(&b, "\n%s", indented.String())
	case titlePattern.Match(body):
		fmt.Fprintf(&b, "\n(a page: %q)", titlePattern.FindSubmatch(body)[1])
	default:
		fmt.Fprintf(&b, "\n%s", body)
	}
	return b.String()
}

// traces keeps the latest traces of the authorization server.
type traces struct {
	mu     sync.Mutex
	latest []record.Trace
}

const keptTraces = 200

func (t *traces) add(trace *record.Trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.latest) == keptTraces {
		t.latest = append(t.latest[:0], t.latest[1:]...)
	}
	t.latest = append(t.latest, *trace)
}

// after returns the trace of a request that was sent at began. The server reports it right
// after its response, so it may arrive a moment later.
func (t *traces) after(began time.Time, path, answer string) *record.Trace {
	for range 50 {
		t.mu.Lock()
		for _, trace := range slices.Backward(t.latest) {
			sameRef := trace.Ref == "" || strings.Contains(answer, trace.Ref)
			if trace.Endpoint == path && !trace.Time.Before(began) && sameRef {
				t.mu.Unlock()
				return &trace
			}
		}
		t.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// newest returns the latest trace of an endpoint and client.
func (t *traces) newest(endpoint, clientID string) *record.Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, trace := range slices.Backward(t.latest) {
		if trace.Endpoint == endpoint && trace.ClientID == clientID {
			return &trace
		}
	}
	return nil
}

// frontChannel records the authorization request and response, which go through the browser.
func (d *Demo) frontChannel(r *recording, s *scene, authorizationURL string, callback *url.URL) {
	u, err := url.Parse(authorizationURL)
	if err != nil {
		return
	}
	purpose := "Send the user to the authorization server. They sign in and consent there, not in the app. The browser returns only to a registered redirect URI (RFC 9700, section 2.1), and state and PKCE tie the code to this sign-in (RFC 7636)."
	if s.responseType != "" {
		purpose = "Send the user to the authorization server. They sign in and consent there, and the tokens come back in the URL. The nonce ties the ID token to this sign-in (OpenID Connect Core, section 3.2.2.11)."
	}
	m := Message{
		From: partyBrowser, To: partyServer,
		Purpose:  purpose,
		Request:  fmt.Sprintf("GET %s HTTP/1.1\nHost: %s", breakQuery(u.RequestURI()), u.Host),
		Response: "HTTP/1.1 303 See Other\nLocation: " + breakQuery(callback.String()),
	}
	if t := d.traces.newest("/authorize", s.clientID); t != nil {
		m.setTrace(t)
	}
	r.add(m)
}
