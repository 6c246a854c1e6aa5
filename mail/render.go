package mail

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/valetkey/valetkey/ui/theme"
)

//go:embed templates
var files embed.FS

// View is what a template can use.
type View struct {
	// Kind is the kind of message, Language the language of the texts and Direction that of the writing,
	// ltr or rtl.
	Kind                Kind
	Language, Direction string
	// Service is the name of the service, Host the host of its URL.
	Service, Host string
	Subject       string
	Greeting      string
	// Before and After are paragraphs before and after the code and the button.
	Before, After []string
	Facts         []Fact
	// Code is "" if the message has none; the same holds for Link, a URL, and Button, its text.
	CodeLabel, Code               string
	LinkAlternative, Link, Button string
	Closing                       string
	// Light and Dark are the colors of the theme.
	Light, Dark theme.Palette
	// Message has the values that the texts are made of.
	Message Message
}

// Format keeps the code, the link and the address out of logs and messages.
func (v View) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[view of a message]") }

// LogValue keeps the code, the link and the address out of structured logs.
func (v View) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(v)) }

// Fact is a line about what happened.
type Fact struct{ Label, Value string }

// Templates turn messages into letters. They are safe for concurrent use.
type Templates struct {
	html map[string]*htmltemplate.Template
	text map[string]*texttemplate.Template
}

// commonTemplate is the name of the template for kinds that have none of their own.
const commonTemplate = "message"

// maxTemplateBytes is the maximum size of a template file.
const maxTemplateBytes = 256 << 10

var builtIn = sync.OnceValues(func() (*Templates, error) {
	built, err := fs.Sub(files, "templates")
	if err != nil {
		return nil, err
	}
	t := &Templates{map[string]*htmltemplate.Template{}, map[string]*texttemplate.Template{}}
	return t, t.parse(built, false) // a test tries them, and a start should not
})

// ReadTemplates returns the built-in templates, replaced by those in a directory; "" means none.
// A file is called message.html or message.txt, for all kinds of messages; KIND.html or KIND.txt,
// for one; or KIND.LANGUAGE.html or KIND.LANGUAGE.txt, for one kind in one language. A text
// template may define a template with the name subject. Every file of the directory is tried with sample
// messages.
func ReadTemplates(directory string) (*Templates, error) {
	built, err := builtIn()
	if err != nil || directory == "" {
		return built, err
	}
	t := &Templates{maps.Clone(built.html), maps.Clone(built.text)}
	if err := t.parse(os.DirFS(directory), true); err != nil {
		return nil, fmt.Errorf("templates in %s: %w", directory, err)
	}
	return t, nil
}

// parse adds the templates of a directory. If try is set, each is tried with sample messages.
func (t *Templates) parse(directory fs.FS, try bool) error {
	names, err := fs.ReadDir(directory, ".")
	if err != nil {
		return err
	}
	for _, entry := range names {
		name := entry.Name()
		if strings.HasPrefix(name, ".") {
			continue // of an editor, or of a mounted Kubernetes volume
		}
		extension := filepath.Ext(name)
		base := strings.TrimSuffix(name, extension)
		kind, _, _ := strings.Cut(base, ".")
		if !slices.Contains(kinds, Kind(kind)) && base != commonTemplate || extension != ".html" && extension != ".txt" {
			return fmt.Errorf("%s: no message has this template; the names are message and %s, with .html or .txt", name, strings.Join(kindNames(), ", "))
		}
		if info, err := entry.Info(); err == nil && info.Size() > maxTemplateBytes {
			return fmt.Errorf("%s is larger than 256 KiB", name)
		}
		content, err := fs.ReadFile(directory, name)
		if err != nil {
			return err
		}
		if extension == ".html" {
			t.html[base], err = htmltemplate.New(name).Parse(string(content))
		} else {
			t.text[base], err = texttemplate.New(name).Parse(string(content))
		}
		if err == nil && try {
			err = t.try(base, kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func kindNames() []string {
	var names []string
	for _, kind := range kinds {
		names = append(names, string(kind))
	}
	slices.Sort(names)
	return names
}

// try renders sample messages with a template, to find a field that does not exist.
func (t *Templates) try(base, kind string) error {
	only := &Templates{map[string]*htmltemplate.Template{}, map[string]*texttemplate.Template{}}
	if h := t.html[base]; h != nil {
		only.html[commonTemplate] = h
	}
	if x := t.text[base]; x != nil {
		only.text[commonTemplate] = x
	}
	for _, name := range kindNames() {
		if base != commonTemplate && name != kind {
			continue
		}
		v := only.view(sample(Kind(name)), "Example", "https://login.example.com", theme.Default())
		var b bytes.Buffer
		if only.html[commonTemplate] != nil {
			if err := only.html[commonTemplate].Execute(&b, v); err != nil {
				return err
			}
		}
		if only.text[commonTemplate] != nil {
			if _, _, err := executeText(only.text[commonTemplate], v); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample returns a message in which everything is set.
func sample(kind Kind) *Message {
	return &Message{
		Kind: kind, To: "ada@example.com", Username: "ada", Code: "12345678", Path: "/reset?token=sample", Lifetime: time.Hour,
		Address: "new@example.com", Method: "totp", Browser: "Firefox on Linux", Remote: "192.0.2.1", At: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC),
	}
}

func (t *Templates) view(m *Message, service, base string, look *theme.Loaded) *View {
	w := wordsFor(m, service)
	host := strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
	v := &View{
		Kind: m.Kind, Language: w.language.Tag, Direction: w.language.Direction(), Service: oneLine(service), Host: host, Subject: w.own("subject"),
		Greeting: w.text("greeting"), Before: w.paragraphs("before"), After: w.paragraphs("after"), CodeLabel: w.text("code"), Code: spaced(m.Code),
		LinkAlternative: w.text("link"), Closing: w.text("closing"), Light: look.Light, Dark: look.Dark, Message: *m,
	}
	if m.Username != "" {
		v.Greeting = w.text("greeting-name")
	}
	if m.Path != "" {
		v.Link, v.Button = base+m.Path, w.own("button")
	}
	fact := func(label, value string) {
		if value != "" {
			v.Facts = append(v.Facts, Fact{label, oneLine(value)})
		}
	}
	if !m.At.IsZero() {
		fact(w.text("when"), w.language.DateTime(m.At))
	}
	fact(w.text("browser"), m.Browser)
	fact(w.text("remote"), m.Remote)
	return v
}

// spaced returns a code in two groups.
func spaced(code string) string {
	if len(code) != 8 {
		return code
	}
	return code[:4] + " " + code[4:]
}

// oneLine removes everything that could start another line or header, or is invisible.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.In(r, unicode.C) || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// lookup returns the most specific template of a message.
func lookup[T any](templates map[string]T, kind Kind, language string) T {
	for _, name := range []string{string(kind) + "." + language, string(kind)} {
		if t, ok := templates[name]; ok {
			return t
		}
	}
	return templates[commonTemplate]
}

// letter renders a message. base is the URL that links begin with.
func (t *Templates) letter(m *Message, service, base string, look *theme.Loaded) (*Letter, error) {
	v := t.view(m, service, base, look)
	var html bytes.Buffer
	if err := lookup(t.html, m.Kind, v.Language).Execute(&html, v); err != nil {
		return nil, fmt.Errorf("render the message %s as HTML: %w", m.Kind, err)
	}
	subject, text, err := executeText(lookup(t.text, m.Kind, v.Language), v)
	if err != nil {
		return nil, fmt.Errorf("render the message %s as text: %w", m.Kind, err)
	}
	if subject == "" {
		subject = v.Subject
	}
	to, err := forSMTP(m.To)
	if err != nil {
		return nil, errors.New("the address is not valid")
	}
	return &Letter{To: to, Subject: subject, Text: text, HTML: html.String(), kind: string(m.Kind), subject: m.Subject}, nil
}

func executeText(t *texttemplate.Template, v *View) (subject, text string, err error) {
	var b bytes.Buffer
	if own := t.Lookup("subject"); own != nil {
		if err := own.Execute(&b, v); err != nil {
			return "", "", err
		}
		subject = oneLine(b.String())
		b.Reset()
	}
	if err := t.Execute(&b, v); err != nil {
		return "", "", err
	}
	return subject, strings.TrimLeft(b.String(), "\n"), nil
}
