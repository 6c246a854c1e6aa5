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
	"time"
)

// Bounds on logos, and on how many are kept.
const (
	maxLogoBytes  = 256 << 10
	maxLogoSide   = 2048     // pixels: a small file can unfold to a very large picture
	maxLogosBytes = 16 << 20 // for each policy
	logoLife      = time.Hour
	logoKeep      = 24 * time.Hour // while its site is slow or down
	// logoRetry is how long a logo that could not be had is not asked for again.
	logoRetry = 5 * time.Minute
)

// ErrNoLogo says that a client has no logo that could be shown.
var ErrNoLogo = errors.New("authserver: there is no logo to show")

// Logo is the picture behind a client's logo_uri.
type Logo struct {
	ContentType string // image/png, image/jpeg, image/gif or image/webp
	Body        []byte
}

// Logo returns the picture at a logo_uri of a client, or ErrNoLogo. It is fetched here and
// shown from our own origin, so that the visitors of a page are not made known to another
// site. uri must be in the client's metadata. When ctx ends, the fetch goes on for the next
// caller.
func (s *Server) Logo(ctx context.Context, client *Client, uri string) (*Logo, error) {
	if uri == "" {
		return nil, ErrNoLogo
	}
	logo, err := s.remoteOf(client).logos.Get(ctx, uri, false)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, ErrNoLogo // the reason is in the log
	}
	return logo, nil
}

// fetchLogo takes what the bytes say that it is, whatever its site calls it. SVG is not
// among it: that is a document that can hold scripts.
func (r *remote) fetchLogo(ctx context.Context, uri string) (*Logo, int, error) {
	body, _, err := r.Get(ctx, uri, "image/png, image/jpeg, image/webp, image/gif", maxLogoBytes)
	if err != nil {
		return nil, 0, err
	}
	contentType := http.DetectContentType(body)
	var width, height int
	switch contentType {
	case "image/png", "image/jpeg", "image/gif":
		config, _, err := image.DecodeConfig(bytes.NewReader(body))
		if err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", contentType, err)
		}
		width, height = config.Width, config.Height
	case "image/webp":
		width, height = webpSize(body)
	default:
		return nil, 0, fmt.Errorf("it is %s, not PNG, JPEG, WebP or GIF", contentType)
	}
	if width < 1 || height < 1 || width > maxLogoSide || height > maxLogoSide {
		return nil, 0, fmt.Errorf("it measures %d by %d pixels, and may have %d", width, height, maxLogoSide)
	}
	return &Logo{ContentType: contentType, Body: body}, len(body), nil
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
