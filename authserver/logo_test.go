package authserver_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"image"
	"image/gif"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage/memory"
)

func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// logoScene is an engine that may fetch from a site of the test.
func logoScene(t *testing.T, site http.HandlerFunc) (*scene, string) {
	t.Helper()
	server := httptest.NewTLSServer(site)
	t.Cleanup(server.Close)
	authorities := x509.NewCertPool()
	authorities.AddCert(server.Certificate())
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		c.Outgoing = authserver.Outgoing{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CertificateAuthorities: authorities}
	})
	return s, server.URL
}

func TestDC10_LogosArePicturesAndSmall(t *testing.T) {
	var gifs bytes.Buffer
	if err := gif.Encode(&gifs, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	webp := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lossless := webp("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")              // 1 by 1
	lossy := webp("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")         // 1 by 1
	huge := append(bytes.Clone(lossless[:21]), 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0) // 16384 by 16384
	for name, test := range map[string]struct {
		body []byte
		sent string // Content-Type
		want string // "": no logo
	}{
		"png":             {picture(t, 64, 64), "image/png", "image/png"},
		"png by any name": {picture(t, 64, 64), "text/html", "image/png"},
		"gif":             {gifs.Bytes(), "image/gif", "image/gif"},
		"webp lossless":   {lossless, "image/webp", "image/webp"},
		"webp lossy":      {lossy, "image/webp", "image/webp"},
		"huge webp":       {huge, "image/webp", ""},
		"wide":            {picture(t, 4096, 2), "image/png", ""},
		"heavy":           {append(picture(t, 8, 8), make([]byte, 256<<10)...), "image/png", ""},
		"svg":             {[]byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`), "image/svg+xml", ""},
		"html":            {[]byte("<!doctype html><script>alert(1)</script>"), "image/png", ""},
		"cut off":         {picture(t, 64, 64)[:20], "image/png", ""},
		"empty":           {nil, "image/png", ""},
	} {
		s, site := logoScene(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.sent)
			_, _ = w.Write(test.body)
		})
		logo, err := s.server.Logo(t.Context(), &authserver.Client{}, site+"/logo")
		switch {
		case test.want == "" && !errors.Is(err, authserver.ErrNoLogo):
			t.Errorf("%s: a logo of %v, error %v", name, logo, err)
		case test.want != "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (logo.ContentType != test.want || !bytes.Equal(logo.Body, test.body)):
			t.Errorf("%s: it is %s", name, logo.ContentType)
		}
	}
}

func TestLogosAreFetchedOnce(t *testing.T) {
	var fetched atomic.Int32
	body := picture(t, 8, 8)
	s, site := logoScene(t, func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.server.Logo(t.Context(), &authserver.Client{}, site+"/logo"); err != nil {
				t.Error(err)
			}
			if _, err := s.server.Logo(t.Context(), &authserver.Client{}, site+"/missing"); !errors.Is(err, authserver.ErrNoLogo) {
				t.Errorf("a logo that is not there: %v", err)
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 2 {
		t.Errorf("two logos were fetched %d times", n)
	}
}

// Nobody's clients make the server hold all the logos of the world, or reach into its
// network.
func TestDC07_LogosAreNotFetchedFromWithin(t *testing.T) {
	site := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") }))
	defer site.Close()
	s := newScene(t, scriptSetup{})
	for _, uri := range []string{site.URL, "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "data:image/png;base64,AAAA", "https://u:p@example.com/"} {
		if _, err := s.server.Logo(t.Context(), &authserver.Client{}, uri); !errors.Is(err, authserver.ErrNoLogo) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
