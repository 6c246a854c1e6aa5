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

// yamlDecoder turns YAML into what encoding/json takes for a type, and notes what does
// not fit and where everything stood.
type yamlDecoder struct {
	name     string
	lines    map[string]int // of a path such as clients[0].redirect_uris[1]
	problems []error
}

// syntaxError is how the parser says where.
var syntaxError = regexp.MustCompile(`^(?:yaml: )?(?:[a-z ]+: )?line (\d+)(?:, column \d+)?: (.*)`)

// decode looks through the whole file, so that all problems are reported at once.
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

// report notes a problem with the value at a path, or what holds it.
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

// problem notes that a node cannot be read.
func (d *yamlDecoder) problem(n *yaml.Node, format string, args ...any) any {
	d.problems = append(d.problems, fmt.Errorf("%s:%d: %s", d.name, n.Line, fmt.Sprintf(format, args...)))
	return nil
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// readable refuses what YAML readers disagree about, and what makes a small file large.
func (d *yamlDecoder) readable(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.problem(n, "anchors and aliases are not taken here; write the value out")
	case n.Style&yaml.TaggedStyle != 0 || n.Tag == "!":
		d.problem(n, "tags such as %s are not taken here; put text in quotes", n.Tag)
	default:
		return true
	}
	return false
}

var (
	// member is the path of a member of a record, or of a claim, that an explicit null removes.
	member = regexp.MustCompile(`^(clients|users|scopes|resources)\[\d+\](\.claims)?\.[^.\[]+$`)
	// limit is the path of a list without which everything is allowed.
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
		return d.problem(n, "%s is true or false", path)
	case reflect.Int, reflect.Int64:
		if i, ok := scalarValue(n).(json.Number); ok {
			if _, err := i.Int64(); err == nil {
				return i
			}
		}
		return d.problem(n, "%s is a whole number", path)
	}
	value := d.scalar(n, path)
	if value == "" {
		return d.problem(n, "%s is empty: give it a value or leave it out", path)
	}
	return value
}

// null reads a null. One that nobody wrote is often a value that a template left out. Where
// absence has a meaning of its own, such as a client without a secret, that must not be what
// it turns into. A section whose members are all commented out is taken.
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
		return d.problem(n, "%s has no value: give it one or leave it out", path)
	}
	return nil
}

// text reads a value whose type has a form of its own as text.
func (d *yamlDecoder) text(n *yaml.Node, path string, form encoding.TextUnmarshaler) any {
	value := d.scalar(n, path)
	if s, ok := value.(string); ok {
		if err := form.UnmarshalText([]byte(s)); err != nil {
			return d.problem(n, "%s: %v", path, err)
		}
	}
	return value
}

func (d *yamlDecoder) list(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.SequenceNode {
		return d.problem(n, "%s is a list: write each member on a line of its own after a dash", path)
	}
	if len(n.Content) == 0 && limit.MatchString(path) {
		return d.problem(n, "%s is empty: without it everything is allowed; name something or leave it out", path)
	}
	values := []any{}
	for i, member := range n.Content {
		place := fmt.Sprintf("%s[%d]", path, i)
		d.lines[place] = member.Line
		values = append(values, d.value(member, t, place))
	}
	return values
}

// object reads a mapping whose keys are fields.
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
			d.problem(n, "%s is an object: write key: value", path)
			return
		}
		seen := map[string]bool{}
		for pair := range slices.Chunk(n.Content, 2) {
			key, ok := "", false
			if d.readable(pair[0]) {
				if key, ok = scalarValue(pair[0]).(string); !ok {
					d.problem(pair[0], "a key is text: put it in quotes")
				}
			}
			switch {
			case !ok:
			case seen[key]:
				d.problem(pair[0], "the key %q is there twice", key)
			case !yield(key, yamlEntry{pair[0], pair[1]}):
				return
			}
			seen[key] = true
		}
	}
}

func (d *yamlDecoder) scalar(n *yaml.Node, path string) any {
	switch value := scalarValue(n).(type) {
	case string:
		return value
	case nil:
		return d.problem(n, "%s is text", path)
	}
	return d.problem(n, "%s is text: put it in quotes", path)
}

// anything reads a value of no fixed type.
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
				d.problem(entry.key, "merge keys are not taken here; write the members out")
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
		return d.problem(n, "%s has no value: write null if that is meant", path)
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

// nearestName returns the field that a misspelt key most likely means; "" if none is near.
func nearestName(key string, fields map[string]reflect.Type) string {
	best, least := "", len(key)/2+1
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if d := editdistance.Between(key, name); d < least {
			best, least = name, d
		}
	}
	return best
}
