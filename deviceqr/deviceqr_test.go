package deviceqr_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/deviceqr"
)

const verificationURIComplete = "https://login.example.com/device?user_code=WDJB-MJHT"

func Example() {
	// With package client, this is DeviceAuthorization.VerificationURIComplete.
	code, err := deviceqr.Encode("https://login.example.com/device?user_code=WDJB-MJHT")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(code.Bounds().Dx(), "pixels, as an image")
	fmt.Println(strings.Count(code.String(), "\n"), "lines, in a terminal")
	// Output:
	// 41 pixels, as an image
	// 21 lines, in a terminal
}

func TestCamerasFindTheCode(t *testing.T) {
	code, err := deviceqr.Encode(verificationURIComplete)
	if err != nil {
		t.Fatal(err)
	}
	size := code.Bounds().Dx()
	if size != code.Bounds().Dy() || (size-8-17)%4 != 0 {
		t.Fatalf("%d modules are not a QR code with a border of 4", size)
	}
	dark := func(x, y int) bool { r, _, _, _ := code.At(x, y).RGBA(); return r == 0 }
	finder := []string{"1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"}
	for _, corner := range [][2]int{{4, 4}, {size - 11, 4}, {4, size - 11}} {
		for y, row := range finder {
			for x, want := range row {
				if dark(corner[0]+x, corner[1]+y) != (want == '1') {
					t.Fatalf("no finder pattern at %v", corner)
				}
			}
		}
	}
	for i := range size {
		if dark(i, 3) || dark(3, i) || dark(i, size-4) || dark(size-4, i) {
			t.Fatal("the border is not light")
		}
	}
}

func TestTerminalText(t *testing.T) {
	code, err := deviceqr.Encode(verificationURIComplete)
	if err != nil {
		t.Fatal(err)
	}
	size := code.Bounds().Dx()
	lines := strings.Split(strings.TrimSuffix(code.String(), "\n"), "\n")
	if len(lines) != (size+1)/2 {
		t.Errorf("%d lines for %d rows", len(lines), size)
	}
	if want := "\x1b[38;5;16;48;5;231m    █▀▀▀▀▀█ "; !strings.HasPrefix(lines[2], want) {
		t.Errorf("the third line begins with %q", lines[2][:min(60, len(lines[2]))])
	}
}

func TestEmptyURIIsAnError(t *testing.T) {
	if _, err := deviceqr.Encode(""); err == nil || !strings.Contains(err.Error(), "did not send one") {
		t.Errorf("%v", err)
	}
}
