package messages

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/language"
)

//go:embed *.json
var files embed.FS

// Language is one of the languages. It is safe for concurrent use.
type Language struct {
	// Tag is the BCP 47 language tag, which is the name of the file too.
	Tag string
	// Name is what its speakers call the language.
	Name string

	rightToLeft bool
	plural      func(n int) string
	forms       string // that the file must have, separated by spaces
	// date is how a date is written, with {d} for the day, {M} for the number or name of the month,
	// and {y} for the year. clock is what separates it from the time of day.
	date, clock string
	months      string // separated by spaces; "" for numbers
	grouping    string // of thousands
	leastGroup  int    // the digits of the smallest number that is grouped

	load     sync.Once
	messages map[string][]part
	fault    error
}

// English is the language of texts that a language does not have.
var English = &languages[0]

// All returns all languages.
func All() []*Language {
	all := make([]*Language, len(languages))
	for i := range languages {
		all[i] = &languages[i]
	}
	return all
}

// RightToLeft reports whether the language is written from right to left.
func (l *Language) RightToLeft() bool { return l.rightToLeft }

// Direction returns the value of the dir attribute.
func (l *Language) Direction() string {
	if l.rightToLeft {
		return "rtl"
	}
	return "ltr"
}

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for i := range languages {
		tags = append(tags, language.Make(languages[i].Tag))
	}
	return language.NewMatcher(tags)
})

// maxPreferences limits how much of a list of preferences is read.
const maxPreferences = 300

// Match returns the language that fits one of the preferences best; nil if none does. They are BCP
// 47 tags.
func Match(preferences ...string) *Language {
	var tags []language.Tag
	length := 0
	for _, preference := range preferences {
		if length += len(preference); length > maxPreferences {
			break
		}
		if tag, err := language.Parse(preference); err == nil {
			tags = append(tags, tag)
		}
	}
	return match(tags)
}

// Accepted returns the language that fits an Accept-Language header best; nil if none does.
func Accepted(header string) *Language {
	if header == "" || len(header) > maxPreferences {
		return nil
	}
	tags, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return nil
	}
	return match(tags)
}

func match(tags []language.Tag) *Language {
	if len(tags) == 0 {
		return nil
	}
	_, i, confidence := matcher().Match(tags...)
	if confidence < language.Low {
		return nil
	}
	return &languages[i]
}

// message returns the parts of a message, in English if the language does not have it; nil if
// there is none.
func (l *Language) message(key string) []part {
	l.load.Do(func() { l.messages, l.fault = read(l.Tag) })
	if parts := l.messages[key]; parts != nil || l == English {
		return parts
	}
	return English.message(key)
}

// Has reports whether there is a text with the key.
func Has(key string) bool { return English.message(key) != nil }

// Keys returns the keys of all texts, sorted.
func (l *Language) Keys() []string {
	l.message("")
	return slices.Sorted(maps.Keys(l.messages))
}

// Arguments returns the names of the arguments and tags of a text, sorted.
func (l *Language) Arguments(key string) []string {
	names := map[string]bool{}
	arguments(l.message(key), names)
	return slices.Sorted(maps.Keys(names))
}

func arguments(parts []part, names map[string]bool) {
	for _, p := range parts {
		if name := p.arg + p.tag; name != "" {
			names[name] = true
		}
		arguments(p.inner, names)
		for _, form := range p.plural {
			arguments(form, names)
		}
	}
}

// Check returns an error if the file of a language cannot be read.
func (l *Language) Check() error {
	l.message("")
	return l.fault
}

func read(tag string) (map[string][]part, error) {
	content, err := files.ReadFile(tag + ".json")
	if err != nil {
		return nil, err
	}
	var texts map[string]string
	if err := json.Unmarshal(content, &texts); err != nil {
		return nil, fmt.Errorf("%s.json: %w", tag, err)
	}
	messages := make(map[string][]part, len(texts))
	for key, text := range texts {
		parts, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s.json: %s: %w", tag, key, err)
		}
		messages[key] = parts
	}
	return messages, nil
}

// Number returns a number with the separators of the language.
func (l *Language) Number(n int) string {
	digits := strconv.Itoa(n)
	if n < 0 || len(digits) < max(l.leastGroup, 4) {
		return digits
	}
	first := (len(digits)-1)%3 + 1
	grouped := digits[:first]
	for i := first; i < len(digits); i += 3 {
		grouped += l.grouping + digits[i:i+3]
	}
	return grouped
}

// Date returns the date of a time in UTC.
func (l *Language) Date(t time.Time) string {
	t = t.UTC()
	month := strconv.Itoa(int(t.Month()))
	if l.months != "" {
		month = strings.Fields(l.months)[t.Month()-1]
	}
	return strings.NewReplacer("{d}", strconv.Itoa(t.Day()), "{M}", month, "{y}", strconv.Itoa(t.Year())).Replace(l.date)
}

// DateTime returns the date and the time of day in UTC.
func (l *Language) DateTime(t time.Time) string {
	return l.Date(t) + l.clock + t.UTC().Format("15:04") + " UTC"
}
