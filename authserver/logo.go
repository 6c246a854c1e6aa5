package authserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // for image.DecodeConfig
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise
	"net/http"
	"sync"
	"time"
)

// Bounds on logos, and on how many are kept.
const (
	maxLogoBytes = 256 << 10
	maxLogoSide  = 2048 // pixels: a small file can unfold to a very large picture
	maxLogos     = 64
	logoLife     = time.Hour
	// logoRetry is how long a logo that could not be had is not asked for again.
	logoRetry = 5 * time.Minute
	// maxLogoFetches bounds how many are fetched at a time, so that slow sites of others
	// keep nobody waiting.
	maxLogoFetches = 8
)

// ErrNoLogo says that a client has no logo that could be shown.
var ErrNoLogo = errors.New("authserver: there is no logo to show")

// Logo is the picture behind a client's logo_uri.
type Logo struct {
	ContentType string // image/png, image/jpeg, image/gif or image/webp
	Body        []byte
}

// logos keeps what was fetched, in memory. The zero value is empty.
type logos struct {
	fetches sync.WaitGroup
	mu      sync.Mutex
	kept    map[string]*keptLogo
}

// keptLogo is a logo that was fetched, or is being fetched by who put it there.
type keptLogo struct {
	fetched chan struct{} // closed when the rest is set
	logo    *Logo         // nil: it could not be had
	until   time.Time     // zero while it is being fetched
}

// Logo returns the picture at the logo_uri of a client, or ErrNoLogo. It is fetched here
// and shown from our own origin, so that a page's visitors are not made known to another
// site, and kept for an hour. uri is a client's; nobody else's may be asked for. When ctx
// ends, the fetch goes on for whoever asks next.
func (s *Server) Logo(ctx context.Context, uri string) (*Logo, error) {
	if uri == "" {
		return nil, ErrNoLogo
	}
	k, fetch := s.logos.find(uri, time.Now())
	if k == nil {
		return nil, ErrNoLogo
	}
	if fetch {
		s.logos.fetches.Go(func() {
			logo, err := s.fetchLogo(context.WithoutCancel(ctx), uri)
			if err != nil {
				s.log.InfoContext(ctx, "a client's logo cannot be shown", "logo_uri", clip(uri), "error", err)
			}
			s.logos.finish(k, logo, time.Now())
		})
	}
	select {
	case <-k.fetched:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if k.logo == nil {
		return nil, ErrNoLogo
	}
	return k.logo, nil
}

// find returns what is kept, or an entry that the caller must fetch and finish; nil if too
// many are being fetched.
func (l *logos) find(uri string, now time.Time) (k *keptLogo, fetch bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.kept[uri]; ok && (k.until.IsZero() || now.Before(k.until)) {
		return k, false
	}
	fetching := 0
	for other, k := range l.kept {
		if k.until.IsZero() {
			fetching++
		} else if len(l.kept) >= maxLogos {
			delete(l.kept, other)
		}
	}
	if fetching >= maxLogoFetches {
		return nil, false
	}
	if l.kept == nil {
		l.kept = make(map[string]*keptLogo)
	}
	k = &keptLogo{fetched: make(chan struct{})}
	l.kept[uri] = k
	return k, true
}

func (l *logos) finish(k *keptLogo, logo *Logo, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.logo, k.until = logo, now.Add(logoLife)
	if logo == nil {
		k.until = now.Add(logoRetry)
	}
	close(k.fetched)
}

// fetchLogo takes what the bytes say that it is, whatever its site calls it. SVG is not
// among it: that is a document that can hold scripts.
func (s *Server) fetchLogo(ctx context.Context, uri string) (*Logo, error) {
	body, _, err := s.fetchAs(ctx, uri, "image/png, image/jpeg, image/webp, image/gif", maxLogoBytes)
	if err != nil {
		return nil, err
	}
	contentType := http.DetectContentType(body)
	var width, height int
	switch contentType {
	case "image/png", "image/jpeg", "image/gif":
		config, _, err := image.DecodeConfig(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", contentType, err)
		}
		width, height = config.Width, config.Height
	case "image/webp":
		width, height = webpSize(body)
	default:
		return nil, fmt.Errorf("it is %s, not PNG, JPEG, WebP or GIF", contentType)
	}
	if width < 1 || height < 1 || width > maxLogoSide || height > maxLogoSide {
		return nil, fmt.Errorf("it measures %d by %d pixels, and may have %d", width, height, maxLogoSide)
	}
	return &Logo{ContentType: contentType, Body: body}, nil
}

// webpSize reads the measures of a WebP picture from its first chunk (RFC 9649, sections
// 2.5 to 2.7); 0 if it has none.
func webpSize(b []byte) (width, height int) {
	if len(b) < 30 {
		return 0, 0
	}
	switch string(b[12:16]) {
	case "VP8X":
		return 1 + (int(b[24]) | int(b[25])<<8 | int(b[26])<<16), 1 + (int(b[27]) | int(b[28])<<8 | int(b[29])<<16)
	case "VP8L":
		bits := binary.LittleEndian.Uint32(b[21:])
		return 1 + int(bits&0x3fff), 1 + int(bits>>14&0x3fff)
	case "VP8 ":
		return int(binary.LittleEndian.Uint16(b[26:]) & 0x3fff), int(binary.LittleEndian.Uint16(b[28:]) & 0x3fff)
	}
	return 0, 0
}
