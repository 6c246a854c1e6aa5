package messages

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"unicode"
)

// Text is a text that is not translated yet.
type Text struct {
	Key string
	// Args are names of arguments, each followed by its value: a string, an int, a *Text, or in
	// templates also template.HTML or a Tag.
	Args []any
}

// New returns the text with a key.
func New(key string, args ...any) *Text { return &Text{key, args} }

// Plain returns a text that is the same in all languages.
func Plain(s string) *Text { return &Text{Args: []any{s}} }

// Tag is what a tag in a message means: markup before and after its content.
type Tag struct{ Before, After template.HTML }

// Text returns a message as plain text. Arguments that could change the order of the text around them
// are isolated from it (Unicode Standard Annex #9, section 2.4).
func (l *Language) Text(t *Text) string {
	if t == nil {
		return ""
	}
	w := writer{language: l}
	_ = w.text(t) // what was written is the best there is: tests find keys and arguments that are missing
	return w.b.String()
}

// HTML returns a message as HTML. Arguments are escaped and isolated with <bdi>.
func (l *Language) HTML(t *Text) (template.HTML, error) {
	if t == nil {
		return "", nil
	}
	w := writer{language: l, html: true}
	err := w.text(t)
	return template.HTML(w.b.String()), err
}

type writer struct {
	language *Language
	html     bool
	b        strings.Builder
}

func (w *writer) text(t *Text) error {
	if t == nil {
		return nil
	}
	if t.Key == "" {
		return w.value(t.Args[0])
	}
	parts := w.language.message(t.Key)
	if parts == nil {
		w.plain(t.Key)
		return fmt.Errorf("there is no text with the key %q", t.Key)
	}
	return w.parts(parts, t, 0)
}

func (w *writer) parts(parts []part, t *Text, count int) error {
	for _, p := range parts {
		var err error
		switch {
		case p.tag != "":
			err = w.tag(p, t, count)
		case p.count:
			w.plain(w.language.Number(count))
		case p.plural != nil:
			value, _ := t.arg(p.arg).(int)
			inner, ok := p.plural["="+strconv.Itoa(value)]
			if !ok {
				inner, ok = p.plural[w.language.plural(value)]
			}
			if !ok {
				inner = p.plural["other"]
			}
			err = w.parts(inner, t, value)
		case p.arg != "":
			if err = w.value(t.arg(p.arg)); err != nil {
				err = fmt.Errorf("%s: {%s}: %w", t.Key, p.arg, err)
			}
		default:
			w.plain(p.text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) tag(p part, t *Text, count int) error {
	tag, ok := t.arg(p.tag).(Tag)
	if !ok && p.tag == "strong" {
		tag, ok = Tag{"<strong>", "</strong>"}, true
	}
	if w.html && !ok {
		return fmt.Errorf("%s: <%s> is not given", t.Key, p.tag)
	}
	if w.html {
		w.b.WriteString(string(tag.Before))
	}
	err := w.parts(p.inner, t, count)
	if w.html {
		w.b.WriteString(string(tag.After))
	}
	return err
}

func (w *writer) value(value any) error {
	switch v := value.(type) {
	case string:
		switch {
		case w.html:
			w.b.WriteString("<bdi>" + template.HTMLEscapeString(v) + "</bdi>")
		case v != "" && (w.language.RightToLeft() || strings.ContainsFunc(v, rightToLeft)):
			w.b.WriteString("\u2068" + v + "\u2069") // first strong isolate, pop directional isolate
		default:
			w.b.WriteString(v)
		}
	case int:
		w.plain(w.language.Number(v))
	case *Text:
		return w.text(v)
	case template.HTML:
		w.b.WriteString(string(v))
	default:
		return fmt.Errorf("a value is missing or has the type %T", value)
	}
	return nil
}

func (w *writer) plain(s string) {
	if w.html {
		s = template.HTMLEscapeString(s)
	}
	w.b.WriteString(s)
}

// rightToLeft reports whether a character can change the order of the text around it: letters and
// digits that are written from right to left, and invisible characters that control the direction.
func rightToLeft(r rune) bool {
	return unicode.In(r, unicode.Arabic, unicode.Hebrew, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Adlam,
		unicode.Hanifi_Rohingya, unicode.Mandaic, unicode.Samaritan, unicode.Bidi_Control) || '٠' <= r && r <= '٩'
}

// arg returns the value of an argument; nil if it is not given.
func (t *Text) arg(name string) any {
	for i := 0; i+1 < len(t.Args); i += 2 {
		if t.Args[i] == name {
			return t.Args[i+1]
		}
	}
	return nil
}
