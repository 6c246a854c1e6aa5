// Package deviceqr draws the verification_uri_complete of a device authorization response
// as a QR code (RFC 8628, section 3.3.1), for devices with a screen or a terminal. It works
// with any client library and any authorization server.
package deviceqr

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quietZone is the width of the light border, in modules. Cameras need it to find the code
// (ISO/IEC 18004, section 5.3.8).
const quietZone = 4

// Code is a QR code with a border. As an image it has one pixel per module: scale it up
// without smoothing. String returns it as text for a terminal.
type Code struct{ image.Image }

// Encode returns the QR code of a verification_uri_complete. Show the user code next to it:
// users must be able to compare it with the code on the server's page.
func Encode(verificationURIComplete string) (Code, error) {
	if verificationURIComplete == "" {
		return Code{}, errors.New("verification_uri_complete is empty: the authorization server did not send one; show verification_uri and user_code instead")
	}
	code, err := qr.Encode(verificationURIComplete, qr.M, qr.Auto)
	if err != nil {
		return Code{}, fmt.Errorf("encode verification_uri_complete as a QR code: %w", err)
	}
	size := code.Bounds().Dx()
	drawn := image.NewGray(image.Rect(0, 0, size+2*quietZone, size+2*quietZone))
	for y := range drawn.Rect.Dy() {
		for x := range drawn.Rect.Dx() {
			drawn.SetGray(x, y, color.Gray{Y: 255})
			if at := image.Pt(x-quietZone, y-quietZone); at.In(code.Bounds()) {
				drawn.Set(x, y, code.At(at.X, at.Y))
			}
		}
	}
	return Code{drawn}, nil
}

// String returns the code for a terminal with ANSI colors and, for URIs of usual length, at
// least 50 columns. One line shows two rows of modules, black on white whatever the
// terminal's own colors are.
func (c Code) String() string {
	var lines strings.Builder
	for y := 0; y < c.Bounds().Dy(); y += 2 {
		lines.WriteString("\x1b[38;5;16;48;5;231m")
		for x := range c.Bounds().Dx() {
			lines.WriteRune([...]rune{' ', '▀', '▄', '█'}[c.dark(x, y)+2*c.dark(x, y+1)])
		}
		lines.WriteString("\x1b[0m\n")
	}
	return lines.String()
}

// dark returns 1 for a dark module, and 0 for a light one and below the last row.
func (c Code) dark(x, y int) int {
	if !image.Pt(x, y).In(c.Bounds()) || color.GrayModel.Convert(c.At(x, y)).(color.Gray).Y > 127 {
		return 0
	}
	return 1
}
