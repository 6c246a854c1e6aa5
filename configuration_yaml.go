package valetkey

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/valetkey/valetkey/internal/editdistance"
)

// MaxConfigurationBytes is the size of the largest configuration file that is read.
const MaxConfigurationBytes = 16 << 20

const maxConfigurationDepth = 32

// readText reads a configuration file, which may be a pipe.
func readText(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxConfigurationBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// ErrEmpty is the error of a configuration file that says nothing: it is empty or has
// comments alone. Such a file is more likely torn than meant; "clients: []" says that there
// are none.
var ErrEmpty = errors.New("the file says nothing: it is empty or has comments alone")

// parseConfiguration reads the text of a configuration file. Unknown keys, keys that are
// there twice, values of another type and values that no server could use are errors with
// their lines. alone says that whatever the declarations refer to must be among them.
func parseConfiguration(name string, text []byte, alone bool) (Configuration, error) {
	var c Configuration
	if len(text) > MaxConfigurationBytes {
		return c, fmt.Errorf("%s is larger than 16 MiB", name)
	}
	d := yamlDecoder{name: name, lines: map[string]int{}}
	d.decode(text, &c)
	if len(d.problems) == 0 {
		c.validate(d.report)
		if alone {
			c.Declarations.checkReferences(&Declarations{}, d.report)
		}
	}
	return c, errors.Join(d.problems...)
}

// yamlDecoder turns YAML into what encoding/json takes for a type, and notes what does
// not fit and where everything stood.
type yamlDecoder struct {
	name     string
	lines    map[string]int // of a path such as clients[0].redirect_uris[1]
	problems []error
}

// syntaxError is how the parser says where: [line:column].
var syntaxError = regexp.MustCompile(`^\[(\d+):\d+\] (.*)`)

// decode looks through the whole file, so that all problems are reported at once.
func (d *yamlDecoder) decode(text []byte, target any) {
	// Some editors begin a file with a byte order mark, which the parser takes for a letter.
	file, err := parser.ParseBytes(bytes.TrimPrefix(text, []byte("\ufeff")), 0)
	if err != nil {
		place := d.name
		message, _, _ := strings.Cut(err.Error(), "\n")
		if at := syntaxError.FindStringSubmatch(message); at != nil {
			place, message = d.name+":"+at[1], at[2]
		}
		d.problems = append(d.problems, fmt.Errorf("%s: %s", place, message))
		return
	}
	if len(file.Docs) > 1 {
		d.problems = append(d.problems, fmt.Errorf("%s: more than one YAML document", d.name))
		return
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		d.problems = append(d.problems, fmt.Errorf("%s: %w", d.name, ErrEmpty))
		return
	}
	value := d.value(file.Docs[0].Body, reflect.TypeOf(target).Elem(), "")
	if len(d.problems) > 0 {
		return
	}
	document, err := json.Marshal(value)
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(document))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(target)
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
func (d *yamlDecoder) problem(n ast.Node, format string, args ...any) any {
	d.problems = append(d.problems, fmt.Errorf("%s:%d: %s", d.name, n.GetToken().Position.Line, fmt.Sprintf(format, args...)))
	return nil
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

func (d *yamlDecoder) value(n ast.Node, t reflect.Type, path string) any {
	switch n := n.(type) {
	case *ast.AliasNode, *ast.AnchorNode:
		return d.problem(n, "anchors and aliases are not taken here; write the value out")
	case *ast.TagNode:
		return d.value(n.Value, t, path)
	case *ast.NullNode:
		// Often a value that a template left out. Where absence has a meaning of its own,
		// such as a client without a secret, that must not be what it turns into. A section
		// whose members are all commented out is taken.
		section := t.Kind() == reflect.Slice || t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer
		if !section || strings.ContainsAny(path, ".[") {
			return d.problem(n, "%s has no value: give it one or leave it out", path)
		}
		return nil
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
		if b, ok := n.(*ast.BoolNode); ok {
			return b.Value
		}
		return d.problem(n, "%s is true or false", path)
	case reflect.Int, reflect.Int64:
		if i, ok := n.(*ast.IntegerNode); ok {
			return i.Value
		}
		return d.problem(n, "%s is a whole number", path)
	}
	value := d.scalar(n, path)
	if value == "" {
		return d.problem(n, "%s is empty: give it a value or leave it out", path)
	}
	return value
}

// text reads a value whose type has a form of its own as text.
func (d *yamlDecoder) text(n ast.Node, path string, form encoding.TextUnmarshaler) any {
	value := d.scalar(n, path)
	if s, ok := value.(string); ok {
		if err := form.UnmarshalText([]byte(s)); err != nil {
			return d.problem(n, "%s: %v", path, err)
		}
	}
	return value
}

func (d *yamlDecoder) list(n ast.Node, t reflect.Type, path string) any {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.problem(n, "%s is a list: write each member on a line of its own after a dash", path)
	}
	if len(sequence.Values) == 0 && strings.Contains(path, ".") {
		return d.problem(n, "%s is empty: name something or leave it out", path)
	}
	values := []any{}
	for i, member := range sequence.Values {
		place := fmt.Sprintf("%s[%d]", path, i)
		d.lines[place] = member.GetToken().Position.Line
		values = append(values, d.value(member, t, place))
	}
	return values
}

// object reads a mapping whose keys are fields.
func (d *yamlDecoder) object(n ast.Node, path string, fields map[string]reflect.Type) any {
	object := map[string]any{}
	for _, entry := range d.entries(n, path) {
		key := keyOf(entry)
		t, ok := fields[key]
		if !ok {
			where, hint := "", ""
			if path != "" {
				where = " in " + path
			}
			if nearest := nearestName(key, fields); nearest != "" {
				hint = fmt.Sprintf("; did you mean %q?", nearest)
			}
			d.problem(entry.Key, "unknown key %q%s%s", key, where, hint)
			continue
		}
		if _, twice := object[key]; twice {
			d.problem(entry.Key, "the key %q is there twice", key)
			continue
		}
		place := strings.TrimPrefix(path+"."+key, ".")
		d.lines[place] = entry.Key.GetToken().Position.Line
		object[key] = d.value(entry.Value, t, place)
	}
	return object
}

func keyOf(entry *ast.MappingValueNode) string {
	if s, ok := entry.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return entry.Key.String()
}

func (d *yamlDecoder) entries(n ast.Node, path string) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	if path == "" {
		path = "the file"
	}
	d.problem(n, "%s is an object: write key: value", path)
	return nil
}

func (d *yamlDecoder) scalar(n ast.Node, path string) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return d.problem(n, "%s is text: put it in quotes", path)
	}
	return d.problem(n, "%s is text", path)
}

// anything reads a value of no fixed type.
func (d *yamlDecoder) anything(n ast.Node, path string, depth int) any {
	if depth > maxConfigurationDepth {
		return d.problem(n, "%s is nested too deeply", path)
	}
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		object := map[string]any{}
		for _, entry := range d.entries(n, path) {
			key := keyOf(entry)
			if _, twice := object[key]; twice {
				d.problem(entry.Key, "the key %q is there twice", key)
			}
			place := path + "." + key
			d.lines[place] = entry.Key.GetToken().Position.Line
			object[key] = d.anything(entry.Value, place, depth+1)
		}
		return object
	case *ast.SequenceNode:
		values := []any{}
		for i, member := range n.Values {
			values = append(values, d.anything(member, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return values
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		return n.Value
	case *ast.FloatNode:
		return n.Value
	case *ast.NullNode:
		return nil
	}
	return d.scalar(n, path)
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
