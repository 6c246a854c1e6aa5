package messages

import (
	"encoding/json"
	"html/template"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every language has every text, with the same arguments and tags, and with all plural forms.
func TestLanguagesAreComplete(t *testing.T) {
	for _, l := range All() {
		if err := l.Check(); err != nil {
			t.Error(err)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(English.messages)) {
			parts := l.messages[key]
			if parts == nil {
				t.Errorf("%s.json lacks %s", l.Tag, key)
				continue
			}
			if want, have := English.Arguments(key), l.Arguments(key); !slices.Equal(want, have) {
				t.Errorf("%s.json: %s: the arguments and tags are %q, and in English %q", l.Tag, key, have, want)
			}
			checkForms(t, l, key, parts)
		}
		for key := range l.messages {
			if English.messages[key] == nil {
				t.Errorf("%s.json: there is no text %s in English", l.Tag, key)
			}
		}
	}
}

func checkForms(t *testing.T, l *Language, key string, parts []part) {
	t.Helper()
	for _, p := range parts {
		if p.plural == nil {
			continue
		}
		want := strings.Fields(l.forms)
		for _, form := range want {
			if p.plural[form] == nil {
				t.Errorf("%s.json: %s: the plural of {%s} lacks %s", l.Tag, key, p.arg, form)
			}
		}
		for form := range p.plural {
			if !slices.Contains(want, form) && !strings.HasPrefix(form, "=") {
				t.Errorf("%s.json: %s: the language has no plural form %s", l.Tag, key, form)
			}
		}
	}
}

// The files are in the order of their keys and have no key twice, so that a change is easy to review.
func TestFilesAreSorted(t *testing.T) {
	for _, l := range All() {
		content, err := files.ReadFile(l.Tag + ".json")
		if err != nil {
			t.Error(err)
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(string(content)))
		before := ""
		for n := 0; ; n++ {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			key, ok := token.(string)
			if !ok || n%2 == 0 { // the brace, and the texts
				continue
			}
			if key <= before {
				t.Errorf("%s.json: %s comes after %s", l.Tag, key, before)
			}
			before = key
		}
	}
}

// Texts are written as the language is: with its spaces and punctuation, and with one form of address
// and one term for each thing. A translation that mixes them reads as if two people had written it.
func TestTextsAreWrittenInOneStyle(t *testing.T) {
	wide := regexp.MustCompile(`[\p{Han}\p{Hiragana}\p{Katakana}}”」）>][,;:!?]|[,;:!?][\p{Han}\p{Hiragana}\p{Katakana}]|[,;:!?]$`)
	wrong := map[string]*regexp.Regexp{
		"":        regexp.MustCompile(`"|\.\.\.|  |[^\n] \n|[a-z] [,.]`),
		"de":      regexp.MustCompile(`\b(du|dein\w*|dich|dir|Nutzer\w*)\b|\b[Ii]n \{(lifetime|delay)\}`), // “7 Tage”, but “in 7 Tagen”
		"fr":      regexp.MustCompile(`« | [;:!?»]|\b(tu|ton|toi)\b`),
		"es":      regexp.MustCompile(`\b([Uu]sted|[Ii]nicie|[Ii]nténtelo|su (contraseña|sesión))\b`),
		"pt":      regexp.MustCompile(`palavra-passe|ecrã|utilizador|telemóvel|\bgestor\b`),
		"it":      regexp.MustCompile(`e-mail|\b[Ii]l \{(date|time)\}`), // “l’8 marzo”, but “il 9 marzo”
		"nl":      regexp.MustCompile(`\b([Uu]|[Uu]w|toepassing\w*|aanmeld\w*)\b`),
		"pl":      regexp.MustCompile(`ł[eo]ś(\P{L}|$)|[Pp]o upływie \{`),       // verbs that have a gender; “3 godziny”, but “po upływie 3 godzin”
		"ja":      regexp.MustCompile(wide.String() + `|\{(lifetime|delay)\}後`), // “3日間”, but “3日後”
		"zh-Hans": regexp.MustCompile(wide.String() + `|[帐戶户](号|戶|户)`),
		"zh-Hant": regexp.MustCompile(wide.String() + `|通行密鑰|帳號`),
	}
	for _, l := range All() {
		for _, key := range English.Keys() {
			text := l.Text(withNames(l, key))
			if text != strings.TrimSpace(text) && key != "list.separator" {
				t.Errorf("%s.json: %s begins or ends with a space: %q", l.Tag, key, text)
			}
			for _, r := range []*regexp.Regexp{wrong[""], wrong[l.Tag]} {
				if r == nil || key == "list.separator" {
					continue
				}
				if found := r.FindString(text); found != "" {
					t.Errorf("%s.json: %s has %q: %s", l.Tag, key, found, text)
				}
			}
		}
	}
}

// withNames returns a text whose arguments are their own names in braces.
func withNames(l *Language, key string) *Text {
	text := New(key)
	for _, name := range l.Arguments(key) {
		if name == "count" {
			text.Args = append(text.Args, name, 5)
			continue
		}
		text.Args = append(text.Args, name, "{"+name+"}")
	}
	return text
}

func TestMatch(t *testing.T) {
	for header, want := range map[string]string{"en-US,en;q=0.9": "en", "fi": ""} {
		have := ""
		if l := Accepted(header); l != nil {
			have = l.Tag
		}
		if have != want {
			t.Errorf("Accept-Language: %s is %q, want %q", header, have, want)
		}
	}
	if l := Accepted(strings.Repeat("de,", 1000)); l != nil {
		t.Errorf("a long header was read: %s", l.Tag)
	}
}

func TestText(t *testing.T) {
	l := &Language{Tag: "en", plural: oneOther, date: "{d} {M} {y}", months: English.months, clock: ", ", grouping: ",", messages: map[string][]part{}}
	l.load.Do(func() {})
	for key, message := range map[string]string{
		"name": "Hello {name}, <link>go <strong>on</strong></link>.", "count": "{n, plural, =0 {none} one {# file} other {# files}} of {name}",
	} {
		parts, err := parse(message)
		if err != nil {
			t.Fatal(err)
		}
		l.messages[key] = parts
	}
	link := Tag{`<a href="/">`, "</a>"}
	html, err := l.HTML(New("name", "name", "<b>", "link", link))
	if want := template.HTML(`Hello <bdi>&lt;b&gt;</bdi>, <a href="/">go <strong>on</strong></a>.`); err != nil || html != want {
		t.Errorf("%s, %v; want %s", html, err, want)
	}
	if _, err := l.HTML(New("name", "name", "Ada")); err == nil {
		t.Error("a tag without meaning is accepted")
	}
	if _, err := l.HTML(New("name", "link", link)); err == nil {
		t.Error("a missing argument is accepted")
	}
	for n, want := range map[int]string{0: "none of Ada", 1: "1 file of Ada", 12345: "12,345 files of Ada"} {
		if have := l.Text(New("count", "n", n, "name", "Ada")); have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
	if have, want := l.Text(New("count", "n", 0, "name", "آدا")), "none of \u2068آدا\u2069"; have != want {
		t.Errorf("%q, want %q", have, want)
	}
	right := &Language{Tag: "ar", rightToLeft: true, messages: l.messages}
	right.load.Do(func() {})
	for _, name := range []string{"Ada", "ABC شركة"} { // without the isolate, the parts of the second change places
		if have, want := right.Text(New("name", "name", name)), "Hello \u2068"+name+"\u2069, go on."; have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
	if have, want := l.Text(New("name", "name", "a\u202eb")), "Hello \u2068a\u202eb\u2069, go on."; have != want {
		t.Errorf("%q, want %q", have, want)
	}
	if have, want := l.DateTime(time.Date(2026, time.March, 1, 9, 5, 0, 0, time.UTC)), "1 March 2026, 09:05 UTC"; have != want {
		t.Errorf("%q, want %q", have, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, message := range []string{"{", "{}", "{a", "{a b}", "<a>", "<a", "</>", "<a></b>", "}", "{n, number}", "{n, plural, one {#}}", "{n, plural, other {#}", "it's", strings.Repeat("<a>", 100000)} {
		if parts, err := parse(message); err == nil {
			t.Errorf("%q is accepted: %v", message[:min(40, len(message))], parts)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("{n, plural, =0 {none} one {# <b>file</b>} other {# files}} of {name}")
	f.Fuzz(func(t *testing.T, message string) { _, _ = parse(message) })
}
