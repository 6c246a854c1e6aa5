package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite"

	"github.com/valetkey/valetkey/storage"
)

// serveFloor serves the handlers of the floors, and copies of the documents of the server at that
// URL.
func serveFloor(address, database, server string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rows, err := newDurableRows(database)
	if err != nil {
		return err
	}
	f := &floor{key: key, rows: rows, secret: sha256.Sum256([]byte(clientSecret))}
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
	mux.HandleFunc("POST /sign", f.guarded(func(w http.ResponseWriter, _ *http.Request) { f.respond(w, f.sign()) }))
	mux.HandleFunc("POST /write", f.guarded(func(w http.ResponseWriter, r *http.Request) {
		access, id := f.sign(), f.sign()
		if err := f.rows.add(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		f.respond(w, access+id)
	}))
	mux.HandleFunc("POST /lookup", f.guarded(func(w http.ResponseWriter, r *http.Request) {
		claims, err := f.rows.find(r.Context(), r.FormValue("token"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(claims)
	}))
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		if err := f.rows.add(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Location", redirectURI+"?code=x&state="+r.FormValue("state"))
		w.WriteHeader(http.StatusSeeOther)
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
	key    *ecdsa.PrivateKey
	rows   *durableRows
	secret [sha256.Size]byte
}

func (f *floor) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		hash := sha256.Sum256([]byte(secret))
		if err := r.ParseForm(); err != nil || subtle.ConstantTimeCompare(hash[:], f.secret[:]) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func (f *floor) respond(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 600})
}

// sign returns an ES256 token with the claims of an access token.
func (f *floor) sign() string {
	var id [16]byte
	rand.Read(id[:])
	now := time.Now().Unix()
	claims, err := json.Marshal(map[string]any{
		"iss": "http://127.0.0.1:8080", "sub": clientID, "aud": "https://photos.example", "client_id": clientID,
		"iat": now, "exp": now + 600, "jti": base64.RawURLEncoding.EncodeToString(id[:]), "scope": apiScope,
	})
	if err != nil {
		return ""
	}
	input := "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9." + base64.RawURLEncoding.EncodeToString(claims)
	hash := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, hash[:])
	if err != nil {
		return ""
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

// durableRows adds rows to SQLite with synchronous=FULL. Concurrent requests share a commit, and
// readers use separate connections.
type durableRows struct {
	waiting chan chan error
	lookup  *sql.Stmt
}

func newDurableRows(path string) (*durableRows, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE rows (id BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"); err != nil {
		return nil, err
	}
	insert, err := db.Prepare("INSERT INTO rows VALUES (?, ?)")
	if err != nil {
		return nil, err
	}
	readers, err := sql.Open("sqlite", "file:"+path+"?_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	readers.SetMaxOpenConns(4)
	readers.SetMaxIdleConns(4)
	lookup, err := readers.Prepare("SELECT data FROM rows WHERE id = ?")
	if err != nil {
		return nil, err
	}
	rows := &durableRows{waiting: make(chan chan error, 1024), lookup: lookup}
	if err := rows.prepare(db); err != nil {
		return nil, err
	}
	go func() {
		for first := range rows.waiting {
			batch := []chan error{first}
			for len(rows.waiting) > 0 && len(batch) < 256 {
				batch = append(batch, <-rows.waiting)
			}
			err := commit(db, insert, len(batch))
			for _, caller := range batch {
				caller <- err
			}
		}
	}()
	return rows, nil
}

// storedTokens are the tokens that can be looked up.
const storedTokens = 256

func storedToken(i int) string { return fmt.Sprintf("%0500d", i%storedTokens) }

// prepare stores the claims of each token.
func (r *durableRows) prepare(db *sql.DB) error {
	for i := range storedTokens {
		id := sha256.Sum256([]byte(storedToken(i)))
		now := time.Now().Unix()
		data, err := json.Marshal(map[string]any{
			"active": true, "iss": "http://127.0.0.1:8080", "sub": storage.NewID(), "aud": "https://photos.example", "client_id": clientID,
			"iat": now, "exp": now + 600, "jti": storage.NewID(), "scope": apiScope, "token_type": "Bearer",
		})
		if err != nil {
			return err
		}
		if _, err := db.Exec("INSERT INTO rows VALUES (?, ?)", id[:], data); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	return nil
}

// find reads the row of a token.
func (r *durableRows) find(ctx context.Context, token string) (map[string]any, error) {
	id := sha256.Sum256([]byte(token))
	var data []byte
	if err := r.lookup.QueryRowContext(ctx, id[:]).Scan(&data); err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	return claims, nil
}

func commit(db *sql.DB, insert *sql.Stmt, count int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	statement := tx.Stmt(insert)
	data := make([]byte, 200)
	for range count {
		var id [32]byte
		rand.Read(id[:])
		if _, err := statement.Exec(id[:], data); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	return tx.Commit()
}

func (r *durableRows) add(ctx context.Context) error {
	done := make(chan error, 1)
	r.waiting <- done
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
