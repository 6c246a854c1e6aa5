package chromium

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Shape is how a page is shown: the size of the window, and the preferred color scheme.
type Shape struct {
	Name          string
	Width, Height int64
	Scheme        string
}

// The shapes in which the pictures of every page are taken.
var (
	PhoneLight   = Shape{"phone-light", 390, 844, "light"}
	PhoneDark    = Shape{"phone-dark", 390, 844, "dark"}
	DesktopLight = Shape{"desktop-light", 1280, 800, "light"}
	DesktopDark  = Shape{"desktop-dark", 1280, 800, "dark"}
	// Narrow is the narrowest window in which pages need not be scrolled sideways (WCAG 1.4.10).
	Narrow = Shape{"narrow", 320, 640, "light"}
)

// Show gives the page that is open a shape, without loading it again. Colors change at once.
func (s Shape) Show(ctx context.Context) error {
	err := chromedp.Do(ctx, media("prefers-color-scheme", s.Scheme, "prefers-reduced-motion", "reduce"), chromedp.EmulateViewport(s.Width, s.Height))
	if err != nil {
		return fmt.Errorf("show a page as %s: %w", s.Name, err)
	}
	return nil
}

// Overflow returns by how many pixels the page that is open is wider than its window.
func Overflow(ctx context.Context) (int, error) {
	return chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
}

// maxPicture is the height of the highest picture. Chromium cannot draw much more at once.
const maxPicture = 8000

// Picture shows the page that is open in a shape, and writes a picture of all of it into a directory.
func (s Shape) Picture(ctx context.Context, directory, name string) error {
	if err := s.Show(ctx); err != nil {
		return err
	}
	// The window is as high as the page: Chromium moves pages from right to left if it is asked for more than is
	// visible.
	height, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
	if err == nil && height > s.Height {
		err = chromedp.Do(ctx, chromedp.EmulateViewport(s.Width, min(height, maxPicture)))
	}
	if err != nil {
		return fmt.Errorf("show all of a page: %w", err)
	}
	picture, err := capture(ctx)
	if err != nil {
		return fmt.Errorf("take a picture of a page: %w", err)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("create the directory of pictures: %w", err)
	}
	if err := os.WriteFile(filepath.Join(directory, name+"."+s.Name+".jpg"), picture, 0o644); err != nil {
		return fmt.Errorf("keep a picture: %w", err)
	}
	return nil
}

// capture returns a picture of the window, in a format that is fast to make.
func capture(ctx context.Context) ([]byte, error) {
	var picture []byte
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		quality, fast := int64(60), true
		result, err := cdp.Call(ctx, target, page.CaptureScreenshot, page.CaptureScreenshotParams{
			Format: page.CaptureScreenshotFormatJpeg, Quality: &quality, OptimizeForSpeed: &fast,
		})
		picture = result.Data
		return err
	}))
	return picture, err
}
