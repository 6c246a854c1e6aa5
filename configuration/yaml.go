package configuration

import (
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/valetkey/valetkey/internal/editdistance"
)

const maxConfigurationDepth = 32

// yamlDecoder converts YAML to JSON for a Go type. It collects what does not fit the type, and
// the line of every value.
type yamlDecoder struct {
	name     string
	lines    map[string]int // of a path such as clients[0].redirect_uris[1]
	problems []error
}

// syntaxError matches the line in an error of the parser.
var syntaxError = regexp.MustCompile(`^(?:yaml: )?(?:[a-z ]+: )?line (\d+)(?:, column \d+)?: (.*)`)

// decode reads the whole file, so that all problems are reported at once.
func (d *yamlDecoder) decode(text []byte, target *Configuration) {
	root, err := parseYAML(text)
	if err != nil {
		place := d.name
		message, _, _ := strings.Cut(err.Error(), "\n")
		if at := syntaxError.FindStringSubmatch(message); at != nil {
			place, message = d.name+":"+at[1], at[2]
		}
		d.problems = append(d.problems, fmt.Errorf("%s: %s", place, message))
		return
	}
	if root == nil || isNull(root) || root.Kind == yaml.MappingNode && len(root.Content) == 0 {
		d.problems = append(d.problems, fmt.Errorf("%s: %w", d.name, ErrEmpty))
		return
	}
	value := d.value(root, reflect.TypeFor[Configuration](), "")
	if len(d.problems) > 0 {
		return
	}
	document, err := json.Marshal(value)
	if err == nil {
		err = decodeDocument(document, target)
	}
	if err != nil {
		d.problems = append(d.problems, fmt.Errorf("%s: %w", d.name, err))
	}
}

// report adds a problem with the value at a path, with its line or that of its parent.
func (d *yamlDecoder) report(path, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	for place := path; place != ""; place = place[:max(0, strings.LastIndexAny(place, ".["))] {
		if line, ok := d.lines[place]; ok {
			d.problems = append(d.problems, fmt.Errorf("%s:%d: %s: %s", d.name, line, path, message))
			return
		}
	}
	d.problems = append(d.problems, fmt.Errorf("%s: %s: %s", d.name, path, message))
}

// problem adds a problem with a node.
func (d *yamlDecoder) problem(n *yaml.Node, format string, args ...any) any {
	d.problems = append(d.problems, fmt.Errorf("%s:%d: %s", d.name, n.Line, fmt.Sprintf(format, args...)))
	return nil
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// readable refuses what YAML parsers disagree about, and what lets a small file grow large.
func (d *yamlDecoder) readable(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.problem(n, "anchors and aliases are not supported: write the value out")
	case n.Style&yaml.TaggedStyle != 0 || n.Tag == "!":
		d.problem(n, "tags such as %s are not supported: quote strings instead", n.Tag)
	default:
		return true
	}
	return false
}

var (
	// member is the path of a member of a record, or of a claim, that an explicit null removes.
	member = regexp.MustCompile(`^(clients|users|scopes|resources)\[\d+\](\.claims)?\.[^.\[]+$`)
	// limit is the path of a list that restricts something; without it everything is allowed.
	limit = regexp.MustCompile(`^(clients\[\d+\]\.resources|resources\[\d+\]\.scopes|claims\[\d+\]\.clients|(hooks|token_exchange)\[\d+\]\.\w+|trusted_issuers\[\d+\]\.signing_algs)$`)
)

func (d *yamlDecoder) value(n *yaml.Node, t reflect.Type, path string) any {
	if !d.readable(n) {
		return nil
	}
	if isNull(n) {
		return d.null(n, t, path)
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == rawType || t.Kind() == reflect.Interface || t.Kind() == reflect.Map {
		return d.anything(n, path, 0)
	}
	if reflect.PointerTo(t).Implements(textType) {
		return d.text(n, path, reflect.New(t).Interface().(encoding.TextUnmarshaler))
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.object(n, path, fieldsOf(t))
	case reflect.Slice:
		return d.list(n, t.Elem(), path)
	case reflect.Bool:
		if b, ok := scalarValue(n).(bool); ok {
			return b
		}
		return d.problem(n, "%s must be true or false, got %s", path, kindOf(n))
	case reflect.Int, reflect.Int64:
		if i, ok := scalarValue(n).(json.Number); ok {
			if _, err := i.Int64(); err == nil {
				return i
			}
		}
		return d.problem(n, "%s must be a whole number, got %s", path, kindOf(n))
	}
	if t.Kind() == reflect.Float64 {
		switch number := scalarValue(n).(type) {
		case json.Number, float64:
			return number
		}
		return d.problem(n, "%s must be a number, got %s", path, kindOf(n))
	}
	value := d.scalar(n, path)
	if value == "" {
		return d.problem(n, "%s is empty: set a value, or remove the line", path)
	}
	return value
}

// null reads a null. An implicit null is often a value that a template left out, so it is an error:
// a client with an empty secret, for example, must not become a client without one. A section
// whose members are all commented out is accepted.
func (d *yamlDecoder) null(n *yaml.Node, t reflect.Type, path string) any {
	if n.Value != "" && member.MatchString(path) {
		switch path[strings.LastIndex(path, ".")+1:] {
		case "client_id", "username", "identifier":
		case "name":
			if !strings.HasPrefix(path, "scopes[") {
				return nil
			}
		default:
			return nil
		}
	}
	section := t.Kind() == reflect.Slice || t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer
	if !section || strings.ContainsAny(path, ".[") {
		return d.problem(n, "%s has no value: set one, or remove the line", path)
	}
	return nil
}

// text reads a value whose type is written as a string, such as a duration.
func (d *yamlDecoder) text(n *yaml.Node, path string, form encoding.TextUnmarshaler) any {
	if n.Kind == yaml.ScalarNode { // for a number such as 10, the form's own error helps more
		if err := form.UnmarshalText([]byte(n.Value)); err != nil {
			return d.problem(n, "%s: %v", path, err)
		}
	}
	return d.scalar(n, path)
}

func (d *yamlDecoder) list(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.SequenceNode {
		return d.problem(n, "%s must be a list, got %s: write each item on its own line after a dash", path, kindOf(n))
	}
	if len(n.Content) == 0 && limit.MatchString(path) {
		return d.problem(n, "%s is empty, which would allow everything: add an item, or remove the line", path)
	}
	values := []any{}
	for i, member := range n.Content {
		place := fmt.Sprintf("%s[%d]", path, i)
		d.lines[place] = member.Line
		values = append(values, d.value(member, t, place))
	}
	return values
}

// object reads a mapping whose keys are the fields of a struct.
func (d *yamlDecoder) object(n *yaml.Node, path string, fields map[string]reflect.Type) any {
	object := map[string]any{}
	for key, entry := range d.entries(n, path) {
		t, ok := fields[key]
		if !ok {
			where, hint := "", ""
			if path != "" {
				where = " in " + path
			}
			if nearest := nearestName(key, fields); nearest != "" {
				hint = fmt.Sprintf("; did you mean %q?", nearest)
			}
			d.problem(entry.key, "unknown key %q%s%s", key, where, hint)
			continue
		}
		place := strings.TrimPrefix(path+"."+key, ".")
		d.lines[place] = entry.key.Line
		object[key] = d.value(entry.value, t, place)
	}
	return object
}

type yamlEntry struct{ key, value *yaml.Node }

// entries yields the members of a mapping, each key once.
func (d *yamlDecoder) entries(n *yaml.Node, path string) iter.Seq2[string, yamlEntry] {
	return func(yield func(string, yamlEntry) bool) {
		if n.Kind != yaml.MappingNode {
			if path == "" {
				path = "the file"
			}
			d.problem(n, "%s must be a mapping (key: value), got %s", path, kindOf(n))
			return
		}
		seen := map[string]bool{}
		for pair := range slices.Chunk(n.Content, 2) {
			key, ok := "", false
			if d.readable(pair[0]) {
				if key, ok = scalarValue(pair[0]).(string); !ok {
					d.problem(pair[0], "a key must be a string: put it in quotes")
				}
			}
			switch {
			case !ok:
			case seen[key]:
				d.problem(pair[0], "the key %q is used twice", key)
			case !yield(key, yamlEntry{pair[0], pair[1]}):
				return
			}
			seen[key] = true
		}
	}
}

func (d *yamlDecoder) scalar(n *yaml.Node, path string) any {
	if value, ok := scalarValue(n).(string); ok {
		return value
	}
	if n.Kind != yaml.ScalarNode {
		return d.problem(n, "%s must be a string, got %s", path, kindOf(n))
	}
	return d.problem(n, "%s must be a string, got %s: put it in quotes", path, kindOf(n))
}

// kindOf describes a node in errors, for example "a list".
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch scalarValue(n).(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	}
	return "a number"
}

// anything reads a value of any type.
func (d *yamlDecoder) anything(n *yaml.Node, path string, depth int) any {
	if depth > maxConfigurationDepth {
		return d.problem(n, "%s is nested too deeply", path)
	}
	if !d.readable(n) {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		object := map[string]any{}
		for key, entry := range d.entries(n, path) {
			if key == "<<" && entry.key.Style == 0 {
				d.problem(entry.key, "merge keys are not supported: write the members out")
				continue
			}
			place := path + "." + key
			d.lines[place] = entry.key.Line
			object[key] = d.anything(entry.value, place, depth+1)
		}
		return object
	case yaml.SequenceNode:
		values := []any{}
		for i, member := range n.Content {
			values = append(values, d.anything(member, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return values
	}
	if isNull(n) && n.Value == "" {
		return d.problem(n, "%s has no value: set one, or write null", path)
	}
	if value, ok := scalarValue(n).(error); ok {
		return d.problem(n, "%s: %v", path, value)
	}
	return scalarValue(n)
}

// fieldsOf returns the members of a struct by their JSON names, those of embedded
// structs included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}

// nearestName returns the field that a misspelled key most likely means; "" if none is close.
func nearestName(key string, fields map[string]reflect.Type) string {
	best, least := "", len(key)/2+1
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if d := editdistance.Between(key, name); d < least {
			best, least = name, d
		}
	}
	return best
}
