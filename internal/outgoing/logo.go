package outgoing

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	_ "image/gif"  // for image.DecodeConfig
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/internal/event"
)

const (
	maxLogoBytes  = 256 << 10
	maxLogoSide   = 2048     // pixels: a small file can expand to a very large image
	maxLogosBytes = 16 << 20 // for each Client
	logoLife      = time.Hour
	logoKeep      = 24 * time.Hour // while its site is slow or down
	// logoRetry is how long a logo is not fetched again after a failure.
	logoRetry = 5 * time.Minute
)

// Logo is an image.
type Logo struct {
	ContentType string // image/png, image/jpeg, image/gif or image/webp
	Body        []byte
}

// Logo returns the image at an address. If ctx ends, the fetch continues for the next caller.
func (c *Client) Logo(ctx context.Context, address string) (*Logo, error) {
	return c.logos.Get(ctx, address, false)
}

func (c *Client) newLogos(events *event.Log) Cache[*Logo] {
	return Cache[*Logo]{
		Load: func(ctx context.Context, address string) (*Logo, int, error) {
			logo, err := c.fetchLogo(ctx, address)
			if err != nil {
				events.Record(ctx, event.ClientLogoFetchFailed, slog.String("uri", withoutQuery(address)), slog.Any("cause", err))
				return nil, 0, err
			}
			return logo, len(logo.Body), nil
		},
		Fresh:    logoLife,
		Serve:    logoKeep,
		Keep:     logoKeep,
		Rest:     logoRetry,
		Retry:    logoRetry,
		MaxBytes: maxLogosBytes,
	}
}

// fetchLogo fetches an image. Its type is detected from the bytes; Content-Type is ignored. SVG is
// rejected: it is a document that can contain scripts.
func (c *Client) fetchLogo(ctx context.Context, address string) (*Logo, error) {
	body, _, err := c.Get(ctx, address, "image/png, image/jpeg, image/webp, image/gif", maxLogoBytes)
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
		return nil, fmt.Errorf("it has %d by %d pixels; at most %d by %d are accepted", width, height, maxLogoSide, maxLogoSide)
	}
	return &Logo{ContentType: contentType, Body: body}, nil
}

// webpSize returns the size of a WebP image from its first chunk (RFC 9649, sections 2.5
// to 2.7); 0 if the chunk has none.
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
