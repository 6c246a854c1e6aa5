package valetkey

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/valetkey/valetkey/internal/editdistance"
)

// maxConfigurationBytes bounds a file.
const maxConfigurationBytes = 16 << 20

// readFile reads YAML into a struct with json tags. Keys that the struct does not have,
// keys that are there twice and values of another type are errors with their line.
func readFile[T any](path string) (T, error) {
	var target T
	info, err := os.Stat(path)
	if err != nil {
		return target, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxConfigurationBytes {
		return target, fmt.Errorf("read configuration: %s is larger than 16 MiB", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return target, fmt.Errorf("read configuration: %w", err)
	}
	problems := decodeYAML(filepath.Base(path), text, &target)
	if c, ok := any(&target).(*Configuration); ok && len(problems) == 0 {
		problems = c.validate(filepath.Base(path), text)
	}
	if len(problems) > 0 {
		return target, errors.Join(problems...)
	}
	return target, nil
}

// decodeYAML reads text into target. The whole file is looked through, so that all
// problems are reported at once.
func decodeYAML(name string, text []byte, target any) []error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return []error{fmt.Errorf("%s: %s", name, oneLine(err.Error()))}
	}
	d := yamlDecoder{name: name}
	var value any
	switch {
	case len(file.Docs) > 1:
		return []error{fmt.Errorf("%s: more than one YAML document", name)}
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil
	default:
		value = d.value(file.Docs[0].Body, reflect.TypeOf(target).Elem(), "")
	}
	if len(d.problems) > 0 {
		return d.problems
	}
	document, err := json.Marshal(value)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

func oneLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

// yamlDecoder turns YAML into what encoding/json takes for a type, and notes what does
// not fit.
type yamlDecoder struct {
	name     string
	problems []error
}

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
	case *ast.AnchorNode:
		return d.value(n.Value, t, path)
	case *ast.TagNode:
		return d.value(n.Value, t, path)
	case *ast.AliasNode:
		return d.problem(n, "aliases are not taken here; write the value out")
	case *ast.NullNode:
		return nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == rawType || t.Kind() == reflect.Interface {
		return d.anything(n, path)
	}
	if reflect.PointerTo(t).Implements(textType) {
		return d.scalar(n, path, "text")
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.object(n, path, fieldsOf(t))
	case reflect.Map:
		return d.anything(n, path)
	case reflect.Slice:
		sequence, ok := n.(*ast.SequenceNode)
		if !ok {
			return d.problem(n, "%s is a list: write each member on a line of its own after a dash", path)
		}
		values := []any{}
		for i, member := range sequence.Values {
			values = append(values, d.value(member, t.Elem(), fmt.Sprintf("%s[%d]", path, i)))
		}
		return values
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
	return d.scalar(n, path, "text")
}

// object reads a mapping whose keys are fields.
func (d *yamlDecoder) object(n ast.Node, path string, fields map[string]reflect.Type) any {
	object := map[string]any{}
	for _, entry := range d.entries(n, path) {
		key := entry.Key.String()
		t, ok := fields[key]
		if !ok {
			where := ""
			if path != "" {
				where = " in " + path
			}
			hint := ""
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
		object[key] = d.value(entry.Value, t, joinPath(path, key))
	}
	return object
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
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

func (d *yamlDecoder) scalar(n ast.Node, path, kind string) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return d.problem(n, "%s is %s: put it in quotes", path, kind)
	}
	return d.problem(n, "%s is %s", path, kind)
}

// anything reads a value of no fixed type.
func (d *yamlDecoder) anything(n ast.Node, path string) any {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		object := map[string]any{}
		for _, entry := range d.entries(n, path) {
			key := strings.Trim(entry.Key.String(), `"'`)
			if _, twice := object[key]; twice {
				d.problem(entry.Key, "the key %q is there twice", key)
			}
			object[key] = d.anything(entry.Value, joinPath(path, key))
		}
		return object
	case *ast.SequenceNode:
		values := []any{}
		for i, member := range n.Values {
			values = append(values, d.anything(member, fmt.Sprintf("%s[%d]", path, i)))
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
	return d.scalar(n, path, "text")
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
			for embedded, t := range fieldsOf(f.Type) {
				fields[embedded] = t
			}
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
