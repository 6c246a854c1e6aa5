package client

import (
	"fmt"
	"image"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quietZone is the light border without which cameras do not find a QR code (ISO/IEC 18004,
// section 5.3.8), in modules.
const quietZone = 4

// QRCode is VerificationURIComplete for a person with a phone (RFC 8628, section 3.3.1): an
// image with one pixel a module, to be drawn larger and with sharp edges. Its String is for
// a terminal of at least 50 columns that knows ANSI colours, dark or light.
type QRCode struct{ image.Image }

// QRCode draws VerificationURIComplete. It is an error if the provider gave none.
func (d *DeviceAuthorization) QRCode() (QRCode, error) {
	if d.VerificationURIComplete == "" {
		return QRCode{}, fmt.Errorf("%w: there is no verification_uri_complete to draw", ErrUnsupported)
	}
	code, err := qr.Encode(d.VerificationURIComplete, qr.M, qr.Auto)
	if err != nil {
		return QRCode{}, fmt.Errorf("draw verification_uri_complete: %w", err)
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
	return QRCode{drawn}, nil
}

// String draws two rows of modules in a line, black on white whatever the terminal's own
// colours are.
func (q QRCode) String() string {
	var lines strings.Builder
	for y := 0; y < q.Bounds().Dy(); y += 2 {
		lines.WriteString("\x1b[38;5;16;48;5;231m")
		for x := range q.Bounds().Dx() {
			lines.WriteRune([...]rune{' ', '▀', '▄', '█'}[q.dark(x, y)+2*q.dark(x, y+1)])
		}
		lines.WriteString("\x1b[0m\n")
	}
	return lines.String()
}

// dark is 1 for a dark module, 0 for a light one and below the last row.
func (q QRCode) dark(x, y int) int {
	if !image.Pt(x, y).In(q.Bounds()) || color.GrayModel.Convert(q.At(x, y)).(color.Gray).Y > 127 {
		return 0
	}
	return 1
}
