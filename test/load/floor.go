package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

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

// durableRows adds rows to SQLite with synchronous=FULL; concurrent requests share a commit. Readers
// have separate connections. Like the server, it uses SQLite without database/sql (decision 0012).
type durableRows struct {
	waiting chan chan error
	readers chan *sqlite.Conn
}

func newDurableRows(path string) (*durableRows, error) {
	open := func(pragmas ...string) (*sqlite.Conn, error) {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			return nil, err
		}
		for _, pragma := range pragmas {
			if err := execute(conn, "PRAGMA "+pragma); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		return conn, nil
	}
	writer, err := open("journal_mode = WAL", "synchronous = FULL")
	if err != nil {
		return nil, err
	}
	if err := execute(writer, "CREATE TABLE rows (id BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"); err != nil {
		return nil, err
	}
	rows := &durableRows{waiting: make(chan chan error, 1024), readers: make(chan *sqlite.Conn, 4)}
	if err := rows.prepare(writer); err != nil {
		return nil, err
	}
	for range cap(rows.readers) {
		reader, err := open("query_only = 1")
		if err != nil {
			return nil, err
		}
		rows.readers <- reader
	}
	go func() {
		for first := range rows.waiting {
			batch := []chan error{first}
			for len(rows.waiting) > 0 && len(batch) < 256 {
				batch = append(batch, <-rows.waiting)
			}
			err := commit(writer, len(batch))
			for _, caller := range batch {
				caller <- err
			}
		}
	}()
	return rows, nil
}

// execute runs a statement, which the connection keeps prepared. It ignores rows.
func execute(conn *sqlite.Conn, query string, args ...[]byte) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	for i, arg := range args {
		stmt.BindBytes(i+1, arg)
	}
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}

const insert = "INSERT INTO rows VALUES (?, ?)"

// storedTokens are the tokens that can be looked up.
const storedTokens = 256

func storedToken(i int) string { return fmt.Sprintf("%0500d", i%storedTokens) }

// prepare stores the claims of each token.
func (r *durableRows) prepare(conn *sqlite.Conn) error {
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
		if err := execute(conn, insert, id[:], data); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	return nil
}

// find reads the row of a token.
func (r *durableRows) find(ctx context.Context, token string) (map[string]any, error) {
	id := sha256.Sum256([]byte(token))
	var conn *sqlite.Conn
	select {
	case conn = <-r.readers:
		defer func() { r.readers <- conn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stmt, err := conn.Prepare("SELECT data FROM rows WHERE id = ?")
	if err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	stmt.BindBytes(1, id[:])
	found, err := stmt.Step()
	if err != nil || !found {
		return nil, errors.Join(errors.New("look up: the token was not found"), err)
	}
	data := make([]byte, stmt.ColumnLen(0))
	stmt.ColumnBytes(0, data)
	if err := stmt.Reset(); err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	return claims, nil
}

func commit(conn *sqlite.Conn, count int) error {
	if err := execute(conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	data := make([]byte, 200)
	for range count {
		var id [32]byte
		rand.Read(id[:])
		if err := execute(conn, insert, id[:], data); err != nil {
			return fmt.Errorf("insert: %w", errors.Join(err, execute(conn, "ROLLBACK")))
		}
	}
	return execute(conn, "COMMIT")
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
