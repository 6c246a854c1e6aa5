package outgoing

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/gif"
	"image/png"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDC10_LogosAreSmallImages(t *testing.T) {
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
		"png, wrong type": {picture(t, 64, 64), "text/html", "image/png"},
		"gif":             {gifs.Bytes(), "image/gif", "image/gif"},
		"webp lossless":   {lossless, "image/webp", "image/webp"},
		"webp lossy":      {lossy, "image/webp", "image/webp"},
		"huge webp":       {huge, "image/webp", ""},
		"wide":            {picture(t, 4096, 2), "image/png", ""},
		"large":           {append(picture(t, 8, 8), make([]byte, 256<<10)...), "image/png", ""},
		"svg":             {[]byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`), "image/svg+xml", ""},
		"html":            {[]byte("<!doctype html><script>alert(1)</script>"), "image/png", ""},
		"truncated":       {picture(t, 64, 64)[:20], "image/png", ""},
		"empty":           {nil, "image/png", ""},
	} {
		c, site := fetcher(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.sent)
			_, _ = w.Write(test.body)
		})
		logo, err := c.Logo(t.Context(), site+"/logo")
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%s: accepted as %s", name, logo.ContentType)
		case test.want != "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (logo.ContentType != test.want || !bytes.Equal(logo.Body, test.body)):
			t.Errorf("%s: the type is %s", name, logo.ContentType)
		}
	}
}

func TestLogosAreFetchedOnce(t *testing.T) {
	var fetched atomic.Int32
	body := picture(t, 8, 8)
	c, site := fetcher(t, func(w http.ResponseWriter, r *http.Request) {
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
			if _, err := c.Logo(t.Context(), site+"/logo"); err != nil {
				t.Error(err)
			}
			if _, err := c.Logo(t.Context(), site+"/missing"); err == nil {
				t.Error("a missing logo was returned")
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 2 {
		t.Errorf("two logos were fetched %d times", n)
	}
}
