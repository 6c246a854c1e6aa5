package authserver_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/authserver"
)

// documentHost is a site on which clients publish their metadata, over TLS.
type documentHost struct {
	server *httptest.Server

	mu      sync.Mutex
	answers map[string]servedDocument // by path
	fetched map[string]int            // since somebody asked
}

type servedDocument struct {
	status int
	header http.Header
	body   []byte
}

func newDocumentHost(t testing.TB) *documentHost {
	d := &documentHost{answers: map[string]servedDocument{}, fetched: map[string]int{}}
	d.server = httptest.NewUnstartedServer(d)
	// A connection that stays open would keep a bubble of testing/synctest awake.
	d.server.Config.SetKeepAlivesEnabled(false)
	d.server.StartTLS()
	t.Cleanup(d.server.Close)
	return d
}

// admit has an engine take documents of this host.
func (d *documentHost) admit(config *authserver.Config) {
	config.Outgoing.InsecureOutsiderNetworks = append(config.Outgoing.InsecureOutsiderNetworks, netip.MustParsePrefix("127.0.0.1/32"))
	config.Outgoing.CertificateAuthorities = d.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	config.MetadataDocuments.AllowedHosts = append(config.MetadataDocuments.AllowedHosts, d.server.Listener.Addr().String())
}

func (d *documentHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched[r.URL.Path]++
	answer, ok := d.answers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body)
}

// serve publishes a document and returns its URL.
func (d *documentHost) serve(path string, answer servedDocument) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[path] = answer
	return d.server.URL + path
}

// fetches returns how often a path was asked for since the last call.
func (d *documentHost) fetches(path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.fetched[path]
	delete(d.fetched, path)
	return n
}

// SERVE /client.json [200] [Header=value…], with a body: a client publishes a document.
func (s *scene) verbServe(w http.ResponseWriter, r *http.Request, words []string) error {
	answer := servedDocument{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}}
	for _, word := range words[1:] {
		if name, value, ok := strings.Cut(word, "="); ok {
			answer.header.Set(name, value)
			continue
		}
		var err error
		if answer.status, err = strconv.Atoi(word); err != nil {
			return err
		}
	}
	var err error
	if answer.body, err = io.ReadAll(r.Body); err != nil {
		return err
	}
	fmt.Fprintln(w, s.documents.serve(words[0], answer))
	return nil
}

// FETCHED /client.json: how often since the last time.
func (s *scene) verbFetched(w http.ResponseWriter, _ *http.Request, words []string) error {
	if len(words) != 1 {
		return errors.New("FETCHED PATH")
	}
	fmt.Fprintf(w, "%d times\n", s.documents.fetches(words[0]))
	return nil
}
