package valetkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/valetkey/valetkey/configuration"
)

// drainTime is how long requests in progress may take at a shutdown.
const drainTime = 15 * time.Second

// Serve handles requests on a listener until ctx is done, and then waits for those in
// progress. It uses TLS if the configuration has a certificate.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if s.config.TLS == nil {
		return s.serve(ctx, listener)
	}
	settings, err := s.tlsConfig("certificate", s.config.TLS)
	if err != nil {
		return err
	}
	return s.serve(ctx, tls.NewListener(listener, settings))
}

// cipherSuites are those that RFC 9325, section 4.2 recommends for TLS 1.2; FAPI 2.0, section 5.2.1
// allows no others. Those of TLS 1.3 cannot be configured.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// tlsConfig returns the TLS settings with a certificate. The topic is for details about it at
// /readyz.
func (s *Server) tlsConfig(topic string, files *configuration.TLS) (*tls.Config, error) {
	certificates := &certificateFiles{topic: topic, certificate: files.Certificate, key: files.Key, log: s.log, detail: s.SetReadinessDetail}
	if _, err := certificates.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites,
		GetCertificate: certificates.get, NextProtos: []string{"h2", "http/1.1"},
	}, nil
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	return s.serveHandler(ctx, listener, s)
}

func (s *Server) serveHandler(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("shut down: requests in progress took longer than %v: %w", drainTime, err), server.Close())
	}
	return nil
}

// certificateFiles is a certificate that is reloaded when its files change.
type certificateFiles struct {
	topic            string // of readiness details
	certificate, key string
	log              *slog.Logger
	detail           func(topic string, lines ...string) // SetReadinessDetail

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed time.Time // of the newer file, when it was loaded
	checked time.Time
}

// certificateRecheck is how often the files are checked.
const certificateRecheck = 5 * time.Second

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.loaded != nil && now.Sub(f.checked) < certificateRecheck {
		return f.loaded, nil
	}
	f.checked = now
	changed, err := newest(f.certificate, f.key)
	if err == nil && f.loaded != nil && changed.Equal(f.changed) {
		f.detail(f.topic)
		return f.loaded, nil
	}
	certificate, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		if f.loaded != nil {
			f.log.Error("cannot read the new certificate; the old one stays in use", "error", err)
			f.detail(f.topic, "cannot read the new certificate; the old one stays in use")
			return f.loaded, nil
		}
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	f.loaded, f.changed = &certificate, changed
	f.detail(f.topic)
	return f.loaded, nil
}

func newest(paths ...string) (time.Time, error) {
	var latest time.Time
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return latest, err
		}
		if info.ModTime().After(latest) {
			latest = info.ModTime()
		}
	}
	return latest, nil
}
