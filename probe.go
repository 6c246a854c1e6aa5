package valetkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/probe"
)

// setUpProbe derives the keys that authenticate the questions of "valetkey doctor", from the master
// keys themselves: who asks may not have the database.
func (s *Server) setUpProbe() error {
	var keys []probe.Key
	for _, secret := range s.store.MasterSecrets() {
		key, err := database.Derive(secret, probe.Purpose)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	s.probeKeys.Store(&keys)
	return nil
}

// ReloadMasterKeys reads the master keys of a configuration again. If they do not open everything in the
// database, it returns an error, and the server keeps those that it has.
func (s *Server) ReloadMasterKeys(ctx context.Context, config configuration.Configuration) error {
	config.Database = s.config.Database
	if err := s.store.ReloadMasterKeys(ctx, &config); err != nil {
		return fmt.Errorf("reload the master keys: %w", err)
	}
	return s.setUpProbe()
}

// question returns the question of "valetkey doctor" that a request contains.
func (s *Server) question(r *http.Request) (q probe.Question, ok bool) {
	value := r.Header.Get(probe.Header)
	if value == "" {
		return q, false
	}
	for _, key := range *s.probeKeys.Load() {
		if q, err := key.Open(value, time.Now()); err == nil {
			return q, true
		}
	}
	return q, false
}

// probed answers a question of "valetkey doctor", and reports whether the request was one. Without the
// key, a request is handled like any other.
func (s *Server) probed(w http.ResponseWriter, r *http.Request) bool {
	q, ok := s.question(r)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	answer := s.answer(ctx, r, q)
	h := w.Header()
	if q.Cookies {
		http.SetCookie(w, &http.Cookie{
			Name: cookiename.Of(s.config.Issuer, "probe"), Value: "1",
			Path: "/", Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 60,
		})
	}
	if q.HeaderBytes > 0 {
		h.Set(probe.PaddingHeader, strings.Repeat("x", int(q.HeaderBytes)))
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	h.Set(probe.Header, probe.AnswerMark)
	_ = json.NewEncoder(w).Encode(answer) // an error means that the client has disconnected
	return true
}

func (s *Server) answer(ctx context.Context, r *http.Request, q probe.Question) probe.Answer {
	a := probe.Answer{
		Version: Version, Time: time.Now(), Host: r.Host, Target: r.RequestURI, Method: r.Method,
		TLS: r.TLS != nil, Address: s.proxies.Of(r).String(), Header: map[string][]string{},
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		address := peer.Addr().Unmap()
		a.Peer, a.PeerTrusted = address.String(), s.proxies.Trusted(address)
	}
	for _, name := range probe.ProxyHeaders {
		if values := r.Header[name]; len(values) > 0 {
			a.Header[name] = values
		}
	}
	for _, cookie := range r.Cookies() {
		a.Cookies = append(a.Cookies, cookie.Name)
	}
	// An error means that the body did not arrive in full.
	a.BodyBytes, _ = io.Copy(io.Discard, io.LimitReader(r.Body, probe.MaxBodyBytes))
	a.OpenFiles, a.OpenFilesLimit = probe.OpenFiles()
	if err := s.isReady(ctx); err != nil {
		a.NotReady = err.Error()
	}
	if q.Token {
		signed, err := s.engine.SignProbe(ctx)
		a.Token, a.SignMicroseconds, a.KeySince = signed.Token, signed.Took.Microseconds(), signed.KeySince
		if err != nil {
			s.log.ErrorContext(ctx, "cannot sign", "error", err)
			a.SignError = "the server cannot sign; its log has the reason"
		}
		a.SignExternal, a.FailingKeys = signed.External, s.engine.FailingKeys()
	}
	a.Ready = s.readinessLines()
	return a
}

// Why a node is not ready.
var (
	errDraining   = errors.New("shutting down")
	errNoDatabase = errors.New("the database does not respond")
)

// isReady returns errDraining or errNoDatabase if requests should not be sent to this node.
func (s *Server) isReady(ctx context.Context) error {
	if s.draining.Load() {
		return errDraining
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		s.log.WarnContext(ctx, "not ready", "error", err)
		return errNoDatabase
	}
	return nil
}
