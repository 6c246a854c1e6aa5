package resourceserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// DPoP configures how the API accepts tokens that are bound to the key of DPoP proofs (RFC 9449).
// They are accepted without it too, if Config.Resource is an http or https URL; with it, challenges
// and metadata say so.
type DPoP struct {
	// BaseURL is the URL at which clients reach the API; the path of the request follows it.
	// The default is the scheme and the host of Config.Resource. It needs a path if a proxy
	// removes the beginning of the path. The Host header is not used, because a client can write
	// anything into it.
	BaseURL string
	// Required rejects tokens that are not bound to the key of a proof.
	Required bool
	// NonceKey requires a nonce in each proof, so that a proof cannot be created long before it is
	// used (RFC 9449, section 9). It has at least 32 random bytes, and all processes of the API
	// have the same one. It must not be used for anything else.
	NonceKey []byte `json:"-"`
	// MaxAge is how far the iat of a proof may differ from the current time; zero means a minute.
	MaxAge time.Duration
	// Algorithms are the accepted algorithms of proofs; nil means all asymmetric ones of package
	// jose.
	Algorithms []jose.Algorithm
	// UsedProofs remembers the proofs that were accepted, so that each one is accepted once. nil
	// means the memory of this process: then a captured proof could be used once more at another
	// process, within MaxAge.
	UsedProofs UsedProofs
}

// Format keeps the key out of logs and messages, with any verb.
func (d DPoP) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[DPoP at %q]", d.BaseURL) }

// LogValue keeps the key out of structured logs.
func (d DPoP) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(d)) }

// UsedProofs remembers DPoP proofs. An implementation stores them where all processes of the API
// find them.
type UsedProofs interface {
	// Use records that a proof was used, until it expires. It reports whether the proof is new:
	// of concurrent calls with the same id, only one returns true. id is a hash of fixed length.
	Use(ctx context.Context, id string, expires time.Time) (bool, error)
}

// proofs verifies the DPoP proofs of requests.
type proofs struct {
	config    DPoP
	announced bool // in challenges
	nonces    *dpop.Nonces
	memory    proofMemory // of used proofs, unless config.UsedProofs is set
}

// newProofs returns nil if no DPoP proof can be verified, because the URL of the API is not known.
func newProofs(config *DPoP, resource *url.URL) (*proofs, error) {
	p := &proofs{announced: config != nil}
	if config != nil {
		p.config = *config
	}
	if p.config.BaseURL == "" && (resource.Scheme == "https" || resource.Scheme == "http") {
		p.config.BaseURL = resource.Scheme + "://" + resource.Host
	}
	if p.config.BaseURL == "" && config == nil {
		return nil, nil
	}
	base, err := url.Parse(p.config.BaseURL)
	if err == nil {
		_, err = dpop.NormalizeURI(p.config.BaseURL)
	}
	if err != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("resourceserver: DPoP.BaseURL must be an http or https URL without query and fragment: where clients reach the API")
	}
	p.config.BaseURL = strings.TrimSuffix(p.config.BaseURL, "/")
	if p.config.NonceKey != nil {
		if p.nonces, err = dpop.NewNonces(p.config.NonceKey); err != nil {
			return nil, fmt.Errorf("resourceserver: %w", err)
		}
	}
	if p.config.Algorithms == nil {
		p.config.Algorithms = dpop.Algorithms()
	}
	return p, nil
}

// setNonce adds the nonce for the next request to the response to a request with a proof.
func (p *proofs) setNonce(w http.ResponseWriter, r *http.Request) {
	if p == nil || p.nonces == nil || r.Header.Get(dpop.HeaderProof) == "" {
		return
	}
	dpop.SetNonce(w.Header(), p.nonces.Current(time.Now()))
}

// verify verifies the proof of a request with an access token (RFC 9449, sections 4.3 and 7.1).
func (p *proofs) verify(r *http.Request, accessToken string) (*dpop.Proof, error) {
	if p == nil {
		return nil, invalid("is bound to the key of DPoP proofs, which this API cannot verify: set DPoP.BaseURL")
	}
	now := time.Now()
	sent, err := dpop.FromRequest(r.Header)
	if err == nil && sent == "" {
		err = dpop.ErrMissing
	}
	var proof *dpop.Proof
	if err == nil {
		proof, err = dpop.Verify(sent, dpop.Expected{
			Method: r.Method, URIs: p.uris(r), AccessToken: accessToken, Algorithms: p.config.Algorithms, MaxAge: p.config.MaxAge, Now: now,
		})
	}
	if reason, ok := errors.AsType[dpop.Error](err); ok {
		return nil, proofError(oauth.InvalidDPoPProof, "the DPoP proof is not valid: "+string(reason))
	}
	if err != nil {
		return nil, err
	}
	if p.nonces != nil && !p.nonces.Valid(proof.Nonce, now) {
		return nil, proofError(oauth.UseDPoPNonce, "the DPoP proof needs the nonce in the header DPoP-Nonce")
	}
	return proof, nil
}

// uris returns the URI of a request as the client sees it. A handler that removes the beginning of
// the path, such as http.StripPrefix, leaves RequestURI unchanged.
func (p *proofs) uris(r *http.Request) []string {
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") {
		path = r.URL.EscapedPath()
	}
	uri, err := dpop.NormalizeURI(p.config.BaseURL + path)
	if err != nil {
		return nil // nothing matches
	}
	return []string{uri}
}

// use accepts a proof once.
func (p *proofs) use(ctx context.Context, proof *dpop.Proof) error {
	id := sha256.Sum256([]byte(proof.Thumbprint + "\x00" + proof.ID))
	var fresh bool
	var err error
	if p.config.UsedProofs != nil {
		fresh, err = p.config.UsedProofs.Use(ctx, string(id[:]), proof.Expires)
	} else {
		fresh, err = p.memory.use(proof.Thumbprint, id, proof.Expires)
	}
	if err != nil {
		return fmt.Errorf("record a DPoP proof: %w", err)
	}
	if !fresh {
		return proofError(oauth.InvalidDPoPProof, "the DPoP proof was used before")
	}
	return nil
}

func proofError(code oauth.ErrorCode, description string) error {
	e := oauth.NewError(code, description)
	e.Status = http.StatusUnauthorized
	return e
}

// challenge returns the challenge for the scheme DPoP (RFC 9449, section 7.1).
func (p *proofs) challenge(pairs ...string) oauth.Challenge {
	return oauth.NewChallenge(oauth.TokenTypeDPoP, append(pairs, "algs", strings.Join(dpop.AlgorithmNames(p.config.Algorithms), " "))...)
}

// announcedAlgorithms returns the accepted algorithms for the metadata; nil if DPoP is not configured.
func (p *proofs) announcedAlgorithms() []string {
	if p == nil || !p.announced {
		return nil
	}
	return dpop.AlgorithmNames(p.config.Algorithms)
}

// required reports whether tokens that are not bound to the key of a proof are rejected.
func (p *proofs) required() bool { return p != nil && p.config.Required }

// maxUsedProofs limits the memory for used proofs to about 45 MB. It is reached at a few thousand
// requests with new proofs each second.
const maxUsedProofs = 250_000

// proofMemory remembers used proofs in memory. One key may have as many as there is space left for
// others, so that its holder cannot use up the memory for everyone.
type proofMemory struct {
	mu      sync.Mutex
	proofs  map[[sha256.Size]byte]usedProof
	ofKey   map[keyID]int // how many of the proofs a key has
	cleaned time.Time
}

// usedProof has no pointers, so that the garbage collector skips it.
type usedProof struct {
	key     keyID
	expires int64 // Unix nanoseconds
}

// keyID is the beginning of the SHA-256 of a thumbprint.
type keyID [16]byte

var errProofMemoryFull = errors.New("too many requests with DPoP proofs: set DPoP.UsedProofs, or start more processes")

// use records a proof, and reports whether it is new.
func (m *proofMemory) use(thumbprint string, id [sha256.Size]byte, expires time.Time) (bool, error) {
	now := time.Now()
	hash := sha256.Sum256([]byte(thumbprint))
	key := keyID(hash[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	if used, ok := m.proofs[id]; ok && now.UnixNano() < used.expires {
		return false, nil
	}
	if m.proofs == nil {
		m.proofs, m.ofKey = map[[sha256.Size]byte]usedProof{}, map[keyID]int{}
	}
	full := func() bool { return m.ofKey[key] >= maxUsedProofs-len(m.proofs) }
	if now.Sub(m.cleaned) > time.Minute || full() && now.Sub(m.cleaned) > time.Second {
		m.cleaned = now
		for known, used := range m.proofs {
			if now.UnixNano() >= used.expires {
				m.forget(known, used)
			}
		}
	}
	if full() {
		return false, errProofMemoryFull
	}
	if expired, ok := m.proofs[id]; ok {
		m.forget(id, expired)
	}
	m.proofs[id] = usedProof{key, expires.UnixNano()}
	m.ofKey[key]++
	return true, nil
}

func (m *proofMemory) forget(id [sha256.Size]byte, used usedProof) {
	delete(m.proofs, id)
	if m.ofKey[used.key]--; m.ofKey[used.key] == 0 {
		delete(m.ofKey, used.key)
	}
}
