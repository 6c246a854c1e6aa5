package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// DPoP (RFC 9449): tokens are bound to a key, and each request that sends one has a proof.

// prover creates the proofs of a client, and keeps the nonces of the servers.
type prover struct {
	enabled bool
	fixed   *dpop.Key // for all tokens; nil if each grant has its own key

	mu     sync.Mutex
	nonces map[string]string // by origin: each server has its own
}

// maxNonces limits how many servers have a nonce. If there are more, all nonces are dropped.
const maxNonces = 1000

func (c *Client) useDPoP() error {
	c.prover = &prover{enabled: c.config.DPoP || c.config.DPoPKey != nil, fixed: c.config.DPoPKey}
	if !c.prover.enabled {
		return nil
	}
	if c.responseType.Token {
		return errors.New("client: an access token in the authorization response cannot be bound to a key: use the response type code with DPoP")
	}
	alg := "ES256"
	if c.prover.fixed != nil {
		alg = string(c.prover.fixed.Algorithm())
	}
	if offered := c.metadata.DPoPSigningAlgValuesSupported; !slices.Contains(offered, alg) {
		return fmt.Errorf("%w: its metadata does not list %s in dpop_signing_alg_values_supported, so it does not bind tokens to the key", ErrUnsupported, alg)
	}
	return nil
}

// newKey returns the key for new tokens; nil if they are not bound.
func (p *prover) newKey() (*dpop.Key, error) {
	switch {
	case !p.enabled:
		return nil, nil
	case p.fixed != nil:
		return p.fixed, nil
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("client: DPoP key: %w", err)
	}
	return key, nil
}

// stored returns the key as it is stored with tokens: not if all tokens have the same one.
func (p *prover) stored(key *dpop.Key) *dpop.Key {
	if key == p.fixed {
		return nil
	}
	return key
}

// keyOf returns the key that tokens are bound to; nil for bearer tokens.
func (p *prover) keyOf(t *Tokens) (*dpop.Key, error) {
	switch {
	case !strings.EqualFold(t.TokenType, oauth.TokenTypeDPoP):
		return nil, nil
	case t.DPoPKey != nil:
		return t.DPoPKey, nil
	case p.fixed != nil:
		return p.fixed, nil
	}
	return nil, errors.New("client: the access token is bound to a key that is not stored with it")
}

// prove adds a proof to a request, and returns the nonce that it contains.
func (p *prover) prove(req *http.Request, key *dpop.Key, accessToken string) (nonce string, err error) {
	p.mu.Lock()
	nonce = p.nonces[originOf(req.URL)]
	p.mu.Unlock()
	proof, err := key.Proof(req.Method, req.URL.String(), accessToken, nonce)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set(dpop.HeaderProof, proof)
	return nonce, nil
}

// learn keeps the nonce of a response, and reports whether it differs from the one that was sent.
func (p *prover) learn(u *url.URL, header http.Header, sent string) bool {
	nonce := header.Get(dpop.HeaderNonce)
	if nonce == "" || len(nonce) > 512 || !printable(nonce) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nonces == nil || len(p.nonces) >= maxNonces {
		p.nonces = map[string]string{}
	}
	p.nonces[originOf(u)] = nonce
	return nonce != sent
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

// demandsNonce reports whether a resource refused a proof because it needs a nonce (RFC 9449,
// section 9).
func demandsNonce(status int, header http.Header) bool {
	if status != http.StatusUnauthorized {
		return false
	}
	for _, field := range header.Values("WWW-Authenticate") {
		for _, challenge := range oauth.ParseChallenges(field) {
			if strings.EqualFold(challenge.Scheme, oauth.TokenTypeDPoP) && challenge.Param("error") == string(oauth.UseDPoPNonce) {
				return true
			}
		}
	}
	return false
}

// postBound is post with a proof of a key; nil sends none. If the provider requires a nonce, it sends
// the request once more, with a new client assertion (RFC 9449, section 8), and the same if it
// requires a challenge or a new attestation.
func (c *Client) postBound(ctx context.Context, endpoint string, form url.Values, key *dpop.Key) (*response, error) {
	if key == nil && c.method == oauth.AuthMethodAttestationDPoP {
		key = c.config.DPoPKey
	}
	var again struct{ nonce, attestation bool } // what was repeated already
	for {
		req, err := c.newPost(ctx, endpoint, form)
		if err != nil {
			return nil, err
		}
		nonce := ""
		if key != nil {
			if nonce, err = c.prover.prove(req, key, ""); err != nil {
				return nil, err
			}
		}
		got, err := c.send(req, maxResponseBytes)
		if err != nil {
			return nil, err
		}
		fresh := key != nil && c.prover.learn(req.URL, got.header, nonce)
		switch {
		case c.instance != nil && c.instance.learn(got) && !again.attestation:
			again.attestation = true
		case fresh && !again.nonce && got.status == http.StatusBadRequest && errors.Is(parseError(got), &Error{Code: oauth.UseDPoPNonce}):
			again.nonce = true
		default:
			return got, nil
		}
	}
}

// maxReplayedBody limits the body of a request that is kept in memory, so that the request can be
// repeated with a nonce.
const maxReplayedBody = 64 << 10

// roundTrip sends a request with an access token. It may change req. The request of a bound token
// has a proof, and is sent once more if the server requires a nonce and the body can be repeated.
func (p *prover) roundTrip(base http.RoundTripper, req *http.Request, t *Tokens) (*http.Response, error) {
	key, err := p.keyOf(t)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", t.TokenType+" "+t.AccessToken)
	if key == nil {
		return base.RoundTrip(req)
	}
	if err := repeatable(req); err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		nonce, err := p.prove(req, key, t.AccessToken)
		if err != nil {
			return nil, err
		}
		resp, err := base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		fresh := p.learn(req.URL, resp.Header, nonce)
		noBody := req.Body == nil || req.Body == http.NoBody
		if again || !fresh || !demandsNonce(resp.StatusCode, resp.Header) || !noBody && req.GetBody == nil {
			return resp, nil
		}
		// The connection can be used again if the short body is read.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		resp.Body.Close()
		req = req.Clone(req.Context())
		if !noBody {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, fmt.Errorf("client: repeat the request with a nonce: %w", err)
			}
		}
	}
}

// repeatable keeps a short body in memory, unless the request can repeat its body already.
func repeatable(req *http.Request) error {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil || req.ContentLength <= 0 || req.ContentLength > maxReplayedBody {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxReplayedBody))
	if err != nil {
		return err
	}
	if err := req.Body.Close(); err != nil {
		return err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return nil
}

// checkTokenType checks the token_type of a response to a request with a proof of key; nil means
// that there was none. A provider that ignores the proof would issue a bearer token.
func checkTokenType(tokenType string, key *dpop.Key) (string, error) {
	want := oauth.TokenTypeBearer
	if key != nil {
		want = oauth.TokenTypeDPoP
	}
	if !strings.EqualFold(tokenType, want) {
		return "", fmt.Errorf("%w: token_type is missing or is not %s (RFC 6749, section 7.1)", ErrResponse, want)
	}
	return want, nil
}
