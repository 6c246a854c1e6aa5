package ui

import (
	"fmt"

	"github.com/valetkey/valetkey/ui/theme"
)

// look is how the pages look: a theme, with the URLs of its files.
type look struct {
	Style, Icon    string
	Logo, LogoDark string // "" for none
	LogoHasName    bool
	hasFont        bool
}

// looks are the theme of the server, and those of some clients by client_id.
type looks struct {
	server  *look
	clients map[string]*look
}

func (l *looks) of(client string) *look {
	if own := l.clients[client]; own != nil {
		return own
	}
	return l.server
}

// loadLooks makes a style sheet of each theme.
func (u *UI) loadLooks() error {
	style, err := files.ReadFile("assets/style.css")
	if err != nil {
		return fmt.Errorf("ui: read the style sheet: %w", err)
	}
	own := u.config.Theme
	if own == nil {
		own = theme.Default()
	}
	u.looks = looks{u.lookOf(own, style), map[string]*look{}}
	for client, t := range u.config.ClientThemes {
		u.looks.clients[client] = u.lookOf(t, style)
	}
	icon := u.assets[u.looks.server.Icon[len(u.base):]]
	u.assets[faviconPath] = icon
	return nil
}

func (u *UI) lookOf(t *theme.Loaded, style []byte) *look {
	add := func(name string, f *theme.File) string {
		if f == nil {
			return ""
		}
		return u.addAsset(name, f.Extension, asset{f.ContentType, f.Content})
	}
	l := &look{Logo: add("logo", t.Logo), LogoDark: add("logo", t.LogoDark), LogoHasName: t.LogoHasName, hasFont: t.Font != nil, Icon: add("icon", t.Icon)}
	if l.Icon == "" {
		l.Icon = u.assetURL("icon", ".svg")
	}
	css := t.Variables(add("font", t.Font), add("font", t.Bold)) + string(style)
	l.Style = u.addAsset("style", ".css", asset{"text/css; charset=utf-8", []byte(css)})
	return l
}
