package ui

import (
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/ui/messages"
)

// templates are the templates of all pages, in the languages that were asked for so far.
type templates struct {
	directory string // with the operator's own

	mu sync.Mutex
	// shared has the layout and the shared parts. It is never executed: a template that was executed
	// cannot be copied. sources are the texts of all templates.
	shared  *template.Template
	sources map[string]string
	inUse   map[templateName]*template.Template
}

type templateName struct{ language, page string }

// in returns the template of a page in a language. A page is parsed when it is first shown: all pages
// together take as long as a tenth of a start, and several MiB.
func (t *templates) in(l *messages.Language, page string) (*template.Template, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have := t.inUse[templateName{l.Tag, page}]; have != nil {
		return have, nil
	}
	if t.shared == nil {
		shared, sources, err := parseShared(t.directory)
		if err != nil {
			return nil, err
		}
		t.shared, t.sources, t.inUse = shared, sources, map[templateName]*template.Template{}
	}
	name := page + ".html"
	if t.sources[name] == "" || !isPage(name) {
		return nil, fmt.Errorf("ui: there is no template %s", page)
	}
	parsed, err := parsePage(t.shared, name, t.sources[name])
	if err != nil {
		return nil, err
	}
	t.inUse[templateName{l.Tag, page}] = parsed.Funcs(functions(l))
	return parsed, nil
}

// maxTemplateBytes is the maximum size of an operator's template.
const maxTemplateBytes = 256 << 10

// parseTemplates parses each page together with the layout, the shared parts and the sections of the
// account page, each of which is a file. Files in a directory replace those of the same name; "" means
// none.
func parseTemplates(directory string) (map[string]*template.Template, error) {
	shared, sources, err := parseShared(directory)
	if err != nil {
		return nil, err
	}
	parsed := map[string]*template.Template{}
	for name, source := range sources {
		if !isPage(name) {
			continue
		}
		if parsed[strings.TrimSuffix(name, ".html")], err = parsePage(shared, name, source); err != nil {
			return nil, err
		}
	}
	return parsed, nil
}

// parseShared parses what is not a page, and returns the texts of all templates.
func parseShared(directory string) (*template.Template, map[string]string, error) {
	sources, err := templateSources(directory)
	if err != nil {
		return nil, nil, err
	}
	shared := template.New("").Funcs(functions(messages.English))
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if isPage(name) {
			continue
		}
		if _, err := shared.New(path.Base(name)).Parse(sources[name]); err != nil {
			return nil, nil, fmt.Errorf("ui: %w", err)
		}
	}
	return shared, sources, nil
}

// parsePage parses a page together with a copy of what is shared.
func parsePage(shared *template.Template, name, source string) (*template.Template, error) {
	t, err := shared.Clone()
	if err == nil {
		_, err = t.New(name).Parse(source)
	}
	if err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	return t, nil
}

// isPage reports whether a template is a page, and not a part of pages.
func isPage(name string) bool {
	return name != "layout.html" && name != "parts.html" && !strings.Contains(name, "/")
}

// templateSources returns the templates by name, such as sign-in.html and account/sessions.html.
func templateSources(directory string) (map[string]string, error) {
	sources := map[string]string{}
	read := func(from fs.FS, own bool) error {
		return fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case strings.HasPrefix(entry.Name(), ".") && name != ".": // of an editor, or of a mounted Kubernetes volume
				if entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			case entry.IsDir():
				return nil
			}
			if _, known := sources[name]; own && !known {
				return fmt.Errorf("%s: no page has this template; the names are those in ui/templates", name)
			}
			if info, err := entry.Info(); err == nil && own && info.Size() > maxTemplateBytes {
				return fmt.Errorf("%s is larger than 256 KiB", name)
			}
			content, err := fs.ReadFile(from, name)
			sources[name] = string(content)
			return err
		})
	}
	built, err := fs.Sub(files, "templates")
	if err == nil {
		err = read(built, false)
	}
	if err == nil && directory != "" {
		err = read(os.DirFS(directory), true)
	}
	if err != nil {
		return nil, fmt.Errorf("ui: read templates: %w", err)
	}
	return sources, nil
}

// functions are the functions of the templates in a language.
func functions(l *messages.Language) template.FuncMap {
	return template.FuncMap{
		// t returns a text: of a key with arguments, or a *messages.Text.
		"t": func(text any, args ...any) (template.HTML, error) {
			switch text := text.(type) {
			case string:
				return l.HTML(messages.New(text, args...))
			case *messages.Text:
				return l.HTML(text)
			}
			return "", fmt.Errorf("%T is not a text", text)
		},
		// plain returns a text without markup, for <title>.
		"plain": l.Text,
		// time returns a time, which the script shows in the browser's time zone.
		"time": func(m moment) template.HTML {
			minute, words := "", l.Date(m.Time)
			if m.Minute {
				minute, words = " data-minute", l.DateTime(m.Time)
			}
			return template.HTML(`<time datetime="` + m.Machine() + `"` + minute + `>` + template.HTMLEscapeString(words) + `</time>`)
		},
		// client and strong emphasize a name.
		"client": func(name string) template.HTML {
			return `<bdi class="client">` + template.HTML(template.HTMLEscapeString(name)) + `</bdi>`
		},
		"strong": func(name string) template.HTML {
			return `<strong><bdi>` + template.HTML(template.HTMLEscapeString(name)) + `</bdi></strong>`
		},
		// list returns names with separators between them.
		"list": func(names []string) (template.HTML, error) {
			separator, err := l.HTML(messages.New("list.separator"))
			var list []string
			for _, name := range names {
				list = append(list, "<strong><bdi>"+template.HTMLEscapeString(name)+"</bdi></strong>")
			}
			return template.HTML(strings.Join(list, string(separator))), err
		},
		// link and newTab are the meaning of a tag <link> in a text.
		"link":   func(address string) messages.Tag { return link(address, "") },
		"newTab": func(address string) messages.Tag { return link(address, ` target="_blank" rel="noopener noreferrer"`) },
	}
}

// link returns a tag for a link. The pages link only to web addresses.
func link(address, attributes string) messages.Tag {
	if u, err := url.Parse(address); err != nil || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" {
		address = "#"
	}
	return messages.Tag{Before: template.HTML(`<a href="` + template.HTMLEscapeString(address) + `"` + attributes + `>`), After: "</a>"}
}
