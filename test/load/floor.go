package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/valetkey/valetkey/storage"
)

// rows is a durable table in SQLite or PostgreSQL.
type rows interface {
	// add adds a row with a random key. Concurrent calls share a commit.
	add(context.Context) error
	// find returns the row of storedToken(i).
	find(ctx context.Context, token string) ([]byte, error)
}

func openRows(ctx context.Context, database string) (rows, error) {
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		return openSQLiteRows(path)
	}
	return openPostgreSQLRows(ctx, database)
}

// The endpoints of a floor.
const (
	floorSign       = "/sign"     // a signature
	floorWrite      = "/write"    // two signatures and a row
	floorLookup     = "/lookup"   // reads a row
	floorRedirect   = "/redirect" // a redirect
	floorVerifySign = "/assert"   // verifies two signatures and signs
	floorProve      = "/prove"    // verifies a signature, signs twice, and adds a row
	floorPush       = "/push"     // verifies a signature and adds a row
	floorSpend      = "/spend"    // a redirect and a row
	floorRedeem     = "/redeem"   // verifies two signatures, signs twice, and adds a row
	floorHash       = "/hash"     // a password hash
	floorPasskey    = "/passkey"  // verifies the signature of a passkey
	floorUpstream   = "/upstream" // redeems a code at a provider, verifies the ID token and adds a row
	algorithmParam  = "alg"
)

// serveFloor serves the handlers of the floors, and copies of the documents of the server at that
// URL. client is the key of clients that authenticate with JWTs.
func serveFloor(ctx context.Context, address, database, server, client string) error {
	f := &floor{secret: sha256.Sum256([]byte(clientSecret)), hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	var err error
	if f.client, err = parsePublicKey(client); err != nil {
		return err
	}
	if f.keys, err = newKeys(); err != nil {
		return err
	}
	if f.rows, err = openRows(ctx, database); err != nil {
		return err
	}
	mux := http.NewServeMux()
	for _, path := range []string{discoveryPath, jwksPath} {
		// Fetched at the first request, because the server creates its keys while it starts.
		copied := sync.OnceValues(func() ([]byte, error) { return get(server + path) })
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			document, err := copied()
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(document)))
			w.Write(document)
		})
	}
	f.handle(mux, floorSign, true, func(r *http.Request) (string, error) {
		return f.keys.accessToken(r.Form.Get(algorithmParam))
	})
	f.handle(mux, floorWrite, true, f.issue)
	f.handle(mux, floorPush, false, func(r *http.Request) (string, error) {
		if err := f.verifyAssertion(r); err != nil {
			return "", err
		}
		return "", f.rows.add(r.Context())
	})
	f.handle(mux, floorVerifySign, false, func(r *http.Request) (string, error) {
		if err := errors.Join(f.verifyAssertion(r), verifyProof(r)); err != nil {
			return "", err
		}
		return f.keys.accessToken(es256)
	})
	f.handle(mux, floorRedeem, false, func(r *http.Request) (string, error) {
		if err := errors.Join(f.verifyAssertion(r), verifyProof(r)); err != nil {
			return "", err
		}
		return f.issue(r)
	})
	f.handle(mux, floorHash, false, f.checkPassword)
	f.handle(mux, floorPasskey, false, checkPasskey())
	f.handle(mux, floorUpstream, false, f.redeem)
	f.handle(mux, floorProve, true, func(r *http.Request) (string, error) {
		if err := verifyProof(r); err != nil {
			return "", err
		}
		return f.issue(r)
	})
	mux.HandleFunc("POST "+floorLookup, f.guarded(true, func(w http.ResponseWriter, r *http.Request) {
		response, err := f.rows.find(r.Context(), r.Form.Get("token"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(response)
	}))
	redirect := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", redirectURI+"?code=x&state="+r.FormValue("state"))
		w.WriteHeader(http.StatusSeeOther)
	}
	mux.HandleFunc("GET "+floorRedirect, redirect)
	mux.HandleFunc("GET "+floorSpend, func(w http.ResponseWriter, r *http.Request) {
		if err := f.rows.add(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		redirect(w, r)
	})
	return http.ListenAndServe(address, mux)
}

func get(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

type floor struct {
	keys   keys
	client *ecdsa.PublicKey
	rows   rows
	secret [sha256.Size]byte
	// hashing limits how many passwords are hashed at once, as in the server.
	hashing chan struct{}
}

// issue creates an access token and an ID token, and stores a refresh token.
func (f *floor) issue(r *http.Request) (string, error) {
	access, err := f.keys.accessToken(r.Form.Get(algorithmParam))
	if err != nil {
		return "", err
	}
	id, err := f.keys.accessToken(r.Form.Get(algorithmParam))
	if err != nil {
		return "", err
	}
	return access + id, f.rows.add(r.Context())
}

// verifyAssertion verifies the signature of a client assertion.
func (f *floor) verifyAssertion(r *http.Request) error {
	return verify(f.client, r.Form.Get("client_assertion"))
}

// checkPassword compares a password with a hash that has the parameters of the server's.
func (f *floor) checkPassword(r *http.Request) (string, error) {
	f.hashing <- struct{}{}
	defer func() { <-f.hashing }()
	hash := argon2.IDKey([]byte(r.Form.Get("password")), make([]byte, 16), 2, 19<<10, 1, 32)
	if subtle.ConstantTimeCompare(hash, make([]byte, len(hash))) == 1 {
		return "", errors.New("the hash is zero")
	}
	return "", nil
}

// checkPasskey returns a handler that verifies the signature of a passkey (WebAuthn, section 7.2, steps 19 to
// 21), always the same one.
func checkPasskey() func(*http.Request) (string, error) {
	client, data := sha256.Sum256(make([]byte, 180)), make([]byte, 37)
	digest := sha256.Sum256(append(data, client[:]...))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	var signature []byte
	if err == nil {
		signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
	}
	return func(*http.Request) (string, error) {
		if err == nil && !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return "", errors.New("the signature is not valid")
		}
		return "", err
	}
}

// verifyProof verifies the signature of a DPoP proof.
func verifyProof(r *http.Request) error {
	proof := r.Header.Get("DPoP")
	key, err := embeddedKey(proof)
	if err != nil {
		return err
	}
	return verify(key, proof)
}

// handle responds with the token that work returns.
func (f *floor) handle(mux *http.ServeMux, path string, secret bool, work func(*http.Request) (string, error)) {
	mux.HandleFunc("POST "+path, f.guarded(secret, func(w http.ResponseWriter, r *http.Request) {
		token, err := work(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 600})
	}))
}

// guarded reads the form and checks the client's secret, if the client has one.
func (f *floor) guarded(secret bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, sent, _ := r.BasicAuth()
		hash := sha256.Sum256([]byte(sent))
		if err := r.ParseForm(); err != nil || secret && subtle.ConstantTimeCompare(hash[:], f.secret[:]) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

// storedTokens are the tokens that can be looked up.
const storedTokens = 256

func storedToken(i int) string { return fmt.Sprintf("%0500d", i%storedTokens) }

// storedClaims returns the introspection response of a token.
func storedClaims() ([]byte, error) {
	now := time.Now().Unix()
	return json.Marshal(map[string]any{
		"active": true, "iss": "http://127.0.0.1:8080", "sub": storage.NewID(), "aud": "https://photos.example", "client_id": clientID,
		"iat": now, "exp": now + 600, "jti": storage.NewID(), "scope": apiScope, "token_type": "Bearer",
	})
}

// group calls commit with the number of callers that wait, and returns its result to all of them.
type group struct{ waiting chan chan error }

const maxGroup = 256

func newGroup(lanes int, commit func(lane, count int) error) *group {
	g := &group{make(chan chan error, 1024)}
	for lane := range lanes {
		go func() {
			for first := range g.waiting {
				batch := []chan error{first}
				for len(g.waiting) > 0 && len(batch) < maxGroup {
					batch = append(batch, <-g.waiting)
				}
				err := commit(lane, len(batch))
				for _, caller := range batch {
					caller <- err
				}
			}
		}()
	}
	return g
}

func (g *group) add(ctx context.Context) error {
	done := make(chan error, 1)
	g.waiting <- done
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
