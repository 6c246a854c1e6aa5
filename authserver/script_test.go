package authserver_test

import (
	"bufio"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/httpscript"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

var update = flag.Bool("update", false, "rewrite the responses of the scripts in testdata")

func TestScripts(t *testing.T) {
	documents := newDocumentHost(t)
	httpscript.RunFiles(t, "testdata/*.txtar", *update, func(t *testing.T, setup []byte) httpscript.Host {
		var s scriptSetup
		if err := json.Unmarshal(setup, &s); err != nil {
			t.Fatalf("server.json: %v", err)
		}
		if s.MetadataDocuments {
			s.documents = documents
		}
		host := newScene(t, s).host()
		if s.MutualTLS {
			host.Handler = behindCertificateProxy(t, host.Handler)
		}
		return host
	})
}

// scriptSetup is the format of server.json: declarations and settings of the engine.
type scriptSetup struct {
	Issuer               string
	Clients              []testClient
	Scopes               []record.Scope
	Resources            []record.Resource
	Users                map[string]oauth.Claims `json:"people"` // by subject
	ACRValues            []string                `json:"acr_values"`
	Profile              string
	RequireCodeChallenge bool `json:"require_code_challenge"`
	RequirePushed        bool `json:"require_pushed_authorization_requests"`
	RequireSigned        bool `json:"require_signed_request_object"`
	Registration         authserver.RegistrationPolicy
	Lifetimes            authserver.Lifetimes
	SessionManagement    bool                      `json:"session_management"`
	ClaimMappings        []authserver.ClaimMapping `json:"claims"`
	ClaimSources         []authserver.ClaimSource  `json:"claim_sources"`
	Hooks                bool                      // those in hook_test.go
	Passwords            map[string]string         // by username
	UserCodes            map[string]string         `json:"user_codes"` // by subject
	// FirstPartyApplications enables the authorization challenge endpoint.
	FirstPartyApplications bool `json:"first_party_applications"`
	// MetadataDocuments accepts documents of the host that SERVE creates.
	MetadataDocuments bool        `json:"metadata_documents"`
	DocumentScope     oauth.Scope `json:"metadata_document_scope"`
	documents         *documentHost
	// TokenExchange are the rules of token_exchange.
	TokenExchange []authserver.TokenExchangeRule `json:"token_exchange"`
	// AuthorizationDetailsTypes are those of authorization_details_types.
	AuthorizationDetailsTypes []authserver.AuthorizationDetailsType `json:"authorization_details_types"`
	// In TrustedIssuers, "$key" as jwks or saml_certificates stands for the key of the test.
	TrustedIssuers []authserver.TrustedIssuer `json:"trusted_issuers"`
	// MutualTLS reads certificates from Client-Cert, which has the name of a certificate.
	MutualTLS bool `json:"mutual_tls"`
}

// testClient is a client with its secret. "$key" as jwks stands for the key of the test. In a
// backchannel_logout_uri, $rp stands for the server that receives logout tokens.
type testClient struct {
	Secret string `json:"client_secret"`
	record.Client
}

// database is the interface of all stores.
type database interface {
	record.Store
	Declare(ctx context.Context, now time.Time, source string, d memory.Declaration) error
}

// putThenFind is PutAndFind for a store that replaces Put.
func putThenFind(ctx context.Context, now time.Time, outer, inner record.Store, find record.Find, put []storage.Ticket) (record.Found, error) {
	if err := outer.Put(ctx, now, put...); err != nil {
		return record.Found{}, err
	}
	return inner.PutAndFind(ctx, now, find)
}

// scene is an engine with its users. They sign in when a test calls signIn, and their sessions are
// cookies. It implements authserver.Users.
type scene struct {
	t            testing.TB
	server       *authserver.Server
	config       authserver.Config
	store        database
	users        map[string]oauth.Claims // by subject
	passwords    map[string]string       // by subject
	userCodes    map[string]string       // by subject
	sessions     map[string]*authserver.Authentication
	sessionCount int         // sessions that were started
	mu           *sync.Mutex // guards ended
	ended        []authserver.EndedSession
	rp           net.Listener // where clients receive logout tokens, or nil
	key          *jose.Signer // the signing key of clients and trusted issuers
	documents    *documentHost
	proofKeys    map[string]*jose.Signer // of DPoP proofs, by a name
}

const (
	scriptIssuer  = "https://server.example.com"
	sessionCookie = "session"
)

func newScene(t testing.TB, setup scriptSetup) *scene {
	t.Helper()
	return newSceneOn(t, setup, memory.New(), nil)
}

func newSceneOn(t testing.TB, setup scriptSetup, store database, change func(*authserver.Config)) *scene {
	t.Helper()
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, store: store, users: setup.Users, passwords: setup.Passwords, userCodes: setup.UserCodes, sessions: map[string]*authserver.Authentication{}, mu: &sync.Mutex{}}
	if s.users == nil {
		s.users = map[string]oauth.Claims{"ada": {}}
	}
	// The key of an unknown type signs with a random nonce, so that JWTs with equal claims differ and
	// have names of their own in the scripts.
	if s.key, err = jose.NewSigner(jose.ES256, "client-key", struct{ crypto.Signer }{private}); err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{s.key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	d := memory.Declaration{Scopes: setup.Scopes, Resources: setup.Resources}
	for _, c := range setup.Clients {
		if c.Secret != "" {
			c.Secrets = []string{c.Secret}
		}
		if string(c.JWKS) == `"$key"` {
			c.JWKS = keys
		}
		if string(c.JWKS) == `"$certificate"` {
			c.JWKS = keySetOf(t, rfc8705Certificate(t))
		}
		if path, ok := strings.CutPrefix(c.BackchannelLogoutURI, "$rp"); ok {
			c.BackchannelLogoutURI = "http://" + s.listen() + path
		}
		if path, ok := strings.CutPrefix(c.BackchannelClientNotificationEndpoint, "$rp"); ok {
			c.BackchannelClientNotificationEndpoint = "http://" + s.listen() + path
		}
		d.Clients = append(d.Clients, c.Client)
	}
	if err := store.Declare(t.Context(), time.Now(), "test", d); err != nil {
		t.Fatal(err)
	}
	seedRSAKey(t, store)
	for i := range setup.TrustedIssuers {
		if string(setup.TrustedIssuers[i].JWKS) == `"$key"` {
			setup.TrustedIssuers[i].JWKS = keys
		}
		if setup.TrustedIssuers[i].SAMLCertificates == "$key" {
			setup.TrustedIssuers[i].SAMLCertificates = samlKeys().pem
		}
	}
	config := authserver.Config{
		Issuer:                    setup.Issuer,
		Store:                     store,
		Secret:                    []byte("a secret of the nodes, 32 bytes long"),
		Users:                     s,
		SignIn:                    authserver.SignInSettings{ACRValues: setup.ACRValues},
		Claims:                    authserver.ClaimSettings{Mappings: setup.ClaimMappings, Sources: setup.ClaimSources},
		TokenExchange:             setup.TokenExchange,
		AuthorizationDetailsTypes: setup.AuthorizationDetailsTypes,
		TrustedIssuers:            setup.TrustedIssuers,
		FirstPartyApplications:    setup.FirstPartyApplications,
		Registration:              setup.Registration,
		Lifetimes:                 setup.Lifetimes,
		MetadataDocuments:         authserver.MetadataDocumentPolicy{Scope: setup.DocumentScope},
		Profile:                   setup.Profile,
		RequireCodeChallenge:      setup.RequireCodeChallenge,

		RequirePushedAuthorizationRequests: setup.RequirePushed,
		RequireSignedRequestObject:         setup.RequireSigned,
		Logger:                             slog.New(slog.DiscardHandler),
	}
	if setup.MutualTLS {
		config.MutualTLS = &authserver.MutualTLS{Source: behindProxy(t, "Client-Cert", ""), CertificateAuthorities: scriptAuthority(t).pool()}
	}
	if s.rp != nil {
		config.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	}
	if setup.Hooks {
		config.Hooks = authserver.Hooks{GrantTypes: []authserver.GrantType{voucherGrant()}, TokenClaims: tokenClaims}
	}
	if setup.SessionManagement {
		config.SignIn.BrowserStateCookie = "valetkey_state"
	}
	if config.Issuer == "" {
		config.Issuer = scriptIssuer
	}
	if setup.documents != nil {
		setup.documents.admit(&config)
		s.documents = setup.documents
	}
	if change != nil {
		change(&config)
	}
	s.config = config
	if s.server, err = authserver.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	return s
}

// seedRSAKey stores a key for signing ID tokens. Generating one for each test is slow.
func seedRSAKey(t testing.TB, store database) {
	err := store.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
		if slices.ContainsFunc(keys, func(k record.Key) bool { return k.Algorithm == jose.RS256 }) {
			return keys, nil
		}
		now := time.Now()
		return append(keys, record.Key{ID: storage.NewID(), Algorithm: jose.RS256, Private: rsaKey(), CreatedAt: now, SignsFrom: now.Add(-time.Minute)}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var rsaKey = sync.OnceValue(func() crypto.Signer {
	key, err := jose.GenerateKey(jose.RS256)
	if err != nil {
		panic(err)
	}
	return key
})

func (s *scene) SignedIn(r *http.Request) (*authserver.Authentication, error) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, nil
	}
	return s.sessions[cookie.Value], nil
}

func (s *scene) Claims(_ context.Context, subject string) (oauth.Claims, error) {
	claims, ok := s.users[subject]
	if !ok {
		return nil, storage.ErrNotFound
	}
	return claims, nil
}

func (s *scene) SessionActive(_ context.Context, session string) (bool, error) {
	return s.sessions[session] != nil, nil
}

func (s *scene) SubjectActive(_ context.Context, subject, _ string, _ time.Time) (bool, error) {
	_, ok := s.users[subject]
	return ok, nil
}

// CheckPassword checks the passwords of the setup, and throttles the user "slow".
func (s *scene) CheckPassword(_ *http.Request, username, password string) (*authserver.Authentication, error) {
	switch {
	case username == "slow":
		return nil, &authserver.TryLaterError{After: 30 * time.Second}
	case s.passwords[username] == "" || s.passwords[username] != password:
		return nil, authserver.ErrWrongPassword
	}
	return &authserver.Authentication{Subject: username, Time: time.Now(), ACR: "1", AMR: []string{"pwd"}}, nil
}

// CheckUserCode checks the user codes of the setup.
func (s *scene) CheckUserCode(_ context.Context, subject, _, code string) (set, correct bool, err error) {
	own := s.userCodes[subject]
	return own != "", own != "" && own == code, nil
}

// FindSubject finds users by subject or by the claim email, written in any way that sign-in accepts.
func (s *scene) FindSubject(_ context.Context, id oauth.SubjectIdentifier) (string, error) {
	if id.Format == oauth.SubjectFormatEmail {
		id.Email = strings.ToLower(strings.TrimSpace(id.Email))
	}
	for subject, claims := range s.users {
		if id.Format == oauth.SubjectFormatOpaque && id.ID == subject || id.Format == oauth.SubjectFormatEmail && (claims["email"] == id.Email || subject == id.Email) {
			return subject, nil
		}
	}
	return "", storage.ErrNotFound
}

func (s *scene) EndSessions(_ context.Context, subject string) error {
	for session, who := range s.sessions {
		if who.Subject == subject {
			s.end(session)
		}
	}
	return nil
}

func (s *scene) SignOut(w http.ResponseWriter, r *http.Request) error {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		s.end(cookie.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, MaxAge: -1})
	return nil
}

func (s *scene) end(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if who := s.sessions[session]; who != nil {
		s.ended = append(s.ended, authserver.EndedSession{Subject: who.Subject, Names: append([]string{session}, who.FormerSessions...)})
		delete(s.sessions, session)
	}
}

func (s *scene) EndedSessions(_ context.Context, limit int) ([]authserver.EndedSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended[:min(limit, len(s.ended))]), nil
}

func (s *scene) ForgetEnded(_ context.Context, ended []authserver.EndedSession) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = slices.DeleteFunc(slices.Clone(s.ended), func(e authserver.EndedSession) bool {
		return slices.ContainsFunc(ended, func(f authserver.EndedSession) bool { return f.Names[0] == e.Names[0] })
	})
	return nil
}

// signIn starts a session and returns it.
func (s *scene) signIn(w http.ResponseWriter, subject string) *authserver.Authentication {
	s.sessionCount++
	id := "session-" + strconv.Itoa(s.sessionCount)
	who := &authserver.Authentication{Subject: subject, Time: time.Now(), AMR: []string{"pwd"}, Session: id, SessionExpires: time.Now().Add(12 * time.Hour), BrowserState: "state of " + id}
	s.sessions[id] = who
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id})
	return who
}

// host returns the engine and the verbs that scripts may use.
func (s *scene) host() httpscript.Host {
	return httpscript.Host{Handler: s.server, Verbs: map[string]httpscript.Verb{
		"SIGN-IN": s.verbSignIn, "CONSENT": s.verbConsent, "REFUSE": s.verbRefuse, "SIGN-OUT": s.verbSignOut, "DEVICE": s.verbDevice,
		"PAGE": s.verbPage, "END-SESSION": s.verbEndSession, "DELETE-PERSON": s.verbDeleteUser,
		"SIGN": s.verbSign, "SIGN-SAML": verbSignSAML, "SHOW": verbShow, "DELIVER": s.verbDeliver, "INITIAL-TOKEN": s.verbInitialToken,
		"PROOF": s.verbProof, "ATTEST": s.verbAttest, "POSSESSION": s.verbPossession, "SERVE": s.verbServe, "FETCHED": s.verbFetched,
		"PENDING": s.verbPending, "APPROVAL": s.verbApproval, "DENY": s.verbDeny,
	}}
}

// SIGN-IN $interaction1 ada [acr=…] [amr=…,…]: the user signs in. The interaction - stands for a
// sign-in without a request.
func (s *scene) verbSignIn(w http.ResponseWriter, r *http.Request, words []string) error {
	if len(words) < 2 {
		return errors.New("usage: SIGN-IN INTERACTION SUBJECT")
	}
	who := s.signIn(w, words[1])
	for _, word := range words[2:] {
		if acr, ok := strings.CutPrefix(word, "acr="); ok {
			who.ACR = acr
		} else if amr, ok := strings.CutPrefix(word, "amr="); ok {
			who.AMR = strings.Split(amr, ",")
		}
	}
	if words[0] != "-" {
		s.server.Authenticated(w, r, words[0], *who)
	}
	return nil
}

// CONSENT $interaction1 SCOPE…: the user allows the scopes.
func (s *scene) verbConsent(w http.ResponseWriter, r *http.Request, words []string) error {
	if len(words) < 1 {
		return errors.New("usage: CONSENT INTERACTION SCOPE…")
	}
	decision := authserver.ConsentAnswer{Scope: words[1:]}
	if who, err := s.SignedIn(r); err == nil && who != nil {
		decision.Subject = who.Subject
	}
	s.server.Consented(w, r, words[0], decision)
	return nil
}

// REFUSE $interaction1: the user refuses consent.
func (s *scene) verbRefuse(w http.ResponseWriter, r *http.Request, words []string) error {
	s.server.Refused(w, r, words[0])
	return nil
}

// SIGN-OUT $interaction1: the user confirms a logout.
func (s *scene) verbSignOut(w http.ResponseWriter, r *http.Request, words []string) error {
	s.server.LoggedOut(w, r, words[0])
	return nil
}

// PAGE $interaction1 prints the data of the sign-in, consent or signed-out page.
func (s *scene) verbPage(w http.ResponseWriter, r *http.Request, words []string) error {
	i, err := s.server.Interaction(r, words[0])
	if err != nil {
		s.server.InteractionError(w, r, err)
		return nil
	}
	if i.SignedOut {
		fmt.Fprintln(w, strings.Join(append(i.Frames, "then: "+i.ContinueTo), "\n"))
		return nil
	}
	fmt.Fprintf(w, "signed in: %s\n", i.Subject)
	if i.Client != nil {
		fmt.Fprintf(w, "client: %s\n", i.Client.ID)
	}
	if d := i.Device; d != nil {
		fmt.Fprintf(w, "device code: %s, asked from %s %v ago\n", d.UserCode, d.Address, time.Since(d.Began))
	}
	if b := i.Backchannel; b != nil {
		fmt.Fprintf(w, "binding message: %s, asked %v ago, expires in %v\n", b.BindingMessage, time.Since(b.Began), time.Until(b.Expires))
	}
	for _, scope := range i.Scopes {
		fmt.Fprintf(w, "scope: %s (optional %v, granted %v)\n", scope.Name, scope.Optional, scope.Granted)
	}
	for _, detail := range i.AuthorizationDetails {
		fmt.Fprintf(w, "authorization details: %s: %s\n", detail.Type, detail.Text)
	}
	for _, resource := range i.Resources {
		fmt.Fprintf(w, "resource: %s\n", resource.Identifier)
	}
	if i.FirstTime && i.Client.Registration != nil {
		fmt.Fprintf(w, "the first time (new here %v)\n", i.Newcomer)
	}
	if i.LoginHint != "" {
		fmt.Fprintf(w, "login_hint: %s\n", i.LoginHint)
	}
	if len(i.ACRValues) > 0 {
		fmt.Fprintf(w, "acr_values: %s\n", strings.Join(i.ACRValues, " "))
	}
	return nil
}

// INITIAL-TOKEN 2: the operator creates an initial access token with two uses, valid for an hour.
func (s *scene) verbInitialToken(w http.ResponseWriter, r *http.Request, words []string) error {
	uses, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	token, err := authserver.NewInitialAccessToken(r.Context(), s.store, time.Now(), authserver.InitialAccessToken{Uses: uses, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, token)
	return err
}

// listen opens the listener where clients receive logout tokens, and returns its address. Requests
// wait until receive runs.
func (s *scene) listen() string {
	if s.rp == nil {
		var err error
		if s.rp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { s.rp.Close() })
	}
	return s.rp.Addr().String()
}

// DELIVER [503] delivers logout tokens. The clients respond with 200 or another status.
func (s *scene) verbDeliver(w http.ResponseWriter, r *http.Request, words []string) error {
	status := "200"
	if len(words) > 0 {
		status = words[0]
	}
	received, err := s.deliver(r.Context(), status)
	slices.Sort(received)
	if received == nil {
		received = []string{"nobody is told"}
	}
	fmt.Fprintln(w, strings.Join(received, "\n"))
	return err
}

// deliver delivers logout tokens and returns the requests that the clients received: path and form.
func (s *scene) deliver(ctx context.Context, status string) (received []string, err error) {
	return s.receive(status, func() error { return s.server.DeliverLogouts(ctx) })
}

// receive responds for the clients while f runs, and returns the requests that they received.
func (s *scene) receive(status string, f func() error) (received []string, err error) {
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			connection, err := s.rp.Accept()
			if err != nil {
				return // f has returned
			}
			request, err := http.ReadRequest(bufio.NewReader(connection))
			if err == nil {
				err = request.ParseForm()
			}
			if err != nil {
				s.t.Error(err)
			} else {
				body := request.PostForm.Encode()
				if strings.HasPrefix(request.Header.Get("Content-Type"), "application/json") {
					body = jsonBody(request)
				}
				received = append(received, request.Method+" "+request.URL.RequestURI()+"\n"+body)
			}
			fmt.Fprintf(connection, "HTTP/1.1 %s \r\nConnection: close\r\nContent-Length: 0\r\n\r\n", status)
			connection.Close()
		}
	})
	err = f()
	deadline := s.rp.(*net.TCPListener).SetDeadline
	deadline(time.Unix(1, 0))
	accepting.Wait()
	return received, errors.Join(err, deadline(time.Time{}))
}

// jsonBody returns the credentials and the body of a request with JSON.
func jsonBody(r *http.Request) string {
	var body any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err.Error()
	}
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("Authorization: %s\n%s", r.Header.Get("Authorization"), text)
}

// END-SESSION session-1 ends a session, as if the user signed out in another browser.
func (s *scene) verbEndSession(_ http.ResponseWriter, _ *http.Request, words []string) error {
	s.end(words[0])
	return nil
}

// DELETE-PERSON ada deletes a user.
func (s *scene) verbDeleteUser(_ http.ResponseWriter, _ *http.Request, words []string) error {
	delete(s.users, words[0])
	return nil
}

// SIGN ES256 TYP [SECRET], with claims as the body: a client signs a JWT. A time such as "+60s" is
// relative to now.
func (s *scene) verbSign(w http.ResponseWriter, r *http.Request, words []string) error {
	var claims map[string]any
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		return fmt.Errorf("read the claims: %w", err)
	}
	secret, typ := "", ""
	if len(words) > 1 && words[1] != "-" {
		typ = words[1]
	}
	if len(words) > 2 {
		secret = words[2]
	}
	token, err := s.sign(jose.Algorithm(words[0]), typ, secret, claims)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, token)
	return err
}

func (s *scene) sign(alg jose.Algorithm, typ, secret string, claims map[string]any) (string, error) {
	for _, name := range []string{"exp", "iat", "nbf"} {
		if text, ok := claims[name].(string); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			claims[name] = time.Now().Add(d).Unix()
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer := s.key
	if secret != "" {
		if signer, err = jose.NewSecretSigner(alg, []byte(secret)); err != nil {
			return "", err
		}
	}
	return signer.Sign(typ, payload)
}

// SHOW $idtoken1 prints the header and the claims of a JWT.
func verbShow(w http.ResponseWriter, _ *http.Request, words []string) error {
	header, claims, err := httpscript.Decode(words[0])
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return errors.Join(encoder.Encode(header), encoder.Encode(claims))
}
