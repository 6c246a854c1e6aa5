package theme

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"
)

// Theme is what an operator chooses. What is not set is the default.
type Theme struct {
	Light *Colors `json:"light,omitempty"`
	// Dark is the dark scheme. Without an accent, it uses a shade of that of the light scheme.
	Dark *Colors `json:"dark,omitempty"`
	// Radius is the radius of the corners of buttons and fields, in pixels; nil means 10.
	Radius *int `json:"radius,omitempty"`
	// Logo is a file with an SVG, PNG or WebP picture; LogoDark the one for the dark scheme.
	// LogoHasName says that it contains the name of the service, which is then not written next to it.
	Logo        string `json:"logo,omitempty"`
	LogoDark    string `json:"logo_dark,omitempty"`
	LogoHasName bool   `json:"logo_has_name,omitempty"`
	// Icon is the picture in the tabs of browsers.
	Icon string `json:"icon,omitempty"`
	Font *Font  `json:"font,omitempty"`
}

// Font is a font that the server delivers itself.
type Font struct {
	Family string `json:"family"`
	// File is a WOFF2 file: a variable font, or the regular weight. Bold is the bold weight.
	File string `json:"file"`
	Bold string `json:"bold,omitempty"`
}

// Settings are the theme of the server, and what is different on the pages of some clients.
type Settings struct {
	Theme
	// Clients are the themes on the pages of some clients. What one does not set is that of the server.
	Clients []ClientTheme `json:"clients,omitempty"`
}

// ClientTheme is the theme on the pages of a client.
type ClientTheme struct {
	ClientID string `json:"client_id"`
	Theme
}

// Loaded is a theme that was checked, with its files.
type Loaded struct {
	Light, Dark          Palette
	Radius               int
	Logo, LogoDark, Icon *File
	LogoHasName          bool
	// FontFamily is "" if there is no font.
	FontFamily string
	Font, Bold *File
}

// File is a picture or a font.
type File struct {
	ContentType string
	// Extension is that of the content type, with a dot.
	Extension string
	Content   []byte
}

const (
	defaultRadius = 10
	maxRadius     = 28
	maxPicture    = 256 << 10
	maxFont       = 2 << 20
)

// Default returns the built-in theme.
var Default = sync.OnceValue(func() *Loaded {
	l, err := (&Theme{}).Load()
	if err != nil {
		panic(err) // a test loads it
	}
	return l
})

// Over returns the theme, with what is not set from base.
func (t Theme) Over(base Theme) Theme {
	t.Light, t.Dark = t.Light.over(base.Light), t.Dark.over(base.Dark)
	if t.Radius == nil {
		t.Radius = base.Radius
	}
	if t.Logo == "" {
		t.Logo, t.LogoDark, t.LogoHasName = base.Logo, base.LogoDark, base.LogoHasName
	}
	if t.Icon == "" {
		t.Icon = base.Icon
	}
	if t.Font == nil {
		t.Font = base.Font
	}
	return t
}

// Load checks the theme and reads its files. The error begins with the name of a member.
func (t *Theme) Load() (*Loaded, error) {
	l, err := t.WithoutFiles()
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name, path string
		into       **File
		read       func(string) (*File, error)
	}{{"logo", t.Logo, &l.Logo, picture}, {"logo_dark", t.LogoDark, &l.LogoDark, picture}, {"icon", t.Icon, &l.Icon, picture}} {
		if file.path == "" {
			continue
		}
		if *file.into, err = file.read(file.path); err != nil {
			return nil, fmt.Errorf("%s: %w", file.name, err)
		}
	}
	if t.Font != nil {
		if l.Font, err = font(t.Font.File); err != nil {
			return nil, fmt.Errorf("font.file: %w", err)
		}
		if t.Font.Bold != "" {
			if l.Bold, err = font(t.Font.Bold); err != nil {
				return nil, fmt.Errorf("font.bold: %w", err)
			}
		}
	}
	return l, nil
}

// isFontFamily reports whether a name can be in quotes in a style sheet.
func isFontFamily(name string) bool {
	return name != "" && len(name) <= 60 && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune(" .-", r)
	})
}

// WithoutFiles is Load without the pictures and fonts.
func (t *Theme) WithoutFiles() (*Loaded, error) {
	l := &Loaded{Radius: defaultRadius, LogoHasName: t.LogoHasName}
	light, err := t.Light.palette(false, color{})
	if err != nil {
		return nil, fmt.Errorf("light.%w", err)
	}
	dark, err := t.Dark.palette(true, must(light.Accent))
	if err != nil {
		return nil, fmt.Errorf("dark.%w", err)
	}
	l.Light, l.Dark = *light, *dark
	if t.Radius != nil {
		l.Radius = *t.Radius
	}
	if l.Radius < 0 || l.Radius > maxRadius {
		return nil, fmt.Errorf("radius: use 0 to %d pixels", maxRadius)
	}
	if t.Logo == "" && (t.LogoDark != "" || t.LogoHasName) {
		return nil, errors.New("logo: is required with logo_dark and logo_has_name")
	}
	if t.Font != nil {
		if !isFontFamily(t.Font.Family) || t.Font.File == "" {
			return nil, errors.New("font: family, of letters, digits, spaces and hyphens, and file are required")
		}
		l.FontFamily = t.Font.Family
	}
	return l, nil
}

func read(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, limit>>10)
	}
	return content, nil
}

// picture reads a picture. An SVG file may contain scripts: it is served with a policy that keeps
// browsers from running them, and the pages show it as an image, where they never run.
func picture(path string) (*File, error) {
	content, err := read(path, maxPicture)
	if err != nil {
		return nil, err
	}
	switch kind := http.DetectContentType(content); {
	case kind == "image/png":
		return &File{kind, ".png", content}, nil
	case kind == "image/webp":
		return &File{kind, ".webp", content}, nil
	case strings.EqualFold(filepath.Ext(path), ".svg"):
		if err := checkSVG(content); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return &File{"image/svg+xml", ".svg", content}, nil
	}
	return nil, fmt.Errorf("%s is not an SVG, PNG or WebP picture", path)
}

func checkSVG(content []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(content))
	for root := true; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && !root {
			return nil
		}
		if err != nil {
			return fmt.Errorf("is not an SVG picture: %w", err)
		}
		if element, ok := token.(xml.StartElement); ok && root {
			if element.Name.Local != "svg" {
				return errors.New("is not an SVG picture")
			}
			root = false
		}
	}
}

func font(path string) (*File, error) {
	content, err := read(path, maxFont)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(content, []byte("wOF2")) {
		return nil, fmt.Errorf("%s is not a WOFF2 file", path)
	}
	return &File{"font/woff2", ".woff2", content}, nil
}
