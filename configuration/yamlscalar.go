package configuration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// parseYAML returns the root of the only document in a text; nil if there is none. The parser
// returns the tree; scalarValue decides the types of plain scalars.
func parseYAML(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) { // the parser would accept UTF-16 too
		return nil, errors.New("the file is not valid UTF-8: save it as UTF-8")
	}
	// Some editors begin a file with a byte order mark.
	decoder := yaml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := decoder.Decode(&next); err == nil {
		return nil, errors.New("the file contains more than one YAML document")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	return document.Content[0], nil
}

// The core schema of YAML 1.2 (section 10.3.2).
var (
	yamlInteger = regexp.MustCompile(`^[-+]?[0-9]+$`)
	yamlBase    = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
	yamlFloat   = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	yamlNoFloat = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
	// leadingZero is a number in YAML 1.2, an octal number in YAML 1.1, and often meant as a
	// string.
	leadingZero = regexp.MustCompile(`^[-+]?0[0-9]+`)
	// otherNumber is a string in YAML 1.2, and a number in some parsers.
	otherNumber = regexp.MustCompile(`^[-+]?(0_*[xobXOB][0-9a-fA-F_]+|[0-9][0-9_]*\.?[0-9_]*([eE][-+]?[0-9]+)?)$`)
)

// scalarValue returns the value of a scalar: a string, a bool, a json.Number, nil for null and
// for nodes that are not scalars, or an error for a number that other parsers read differently.
func scalarValue(n *yaml.Node) any {
	if n.Kind != yaml.ScalarNode {
		return nil
	}
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	}
	switch {
	case leadingZero.MatchString(n.Value) && yamlFloat.MatchString(n.Value):
		return errors.New("a number must not begin with 0: quote it if it is a string, or remove the 0")
	case yamlInteger.MatchString(n.Value):
		value, err := strconv.ParseInt(n.Value, 10, 64)
		return exactNumber(value, err)
	case yamlBase.MatchString(n.Value):
		value, err := strconv.ParseInt(n.Value, 0, 64)
		return exactNumber(value, err)
	case yamlFloat.MatchString(n.Value):
		value, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsInf(value, 0) {
			return errors.New("the number is too large")
		}
		return value
	case yamlNoFloat.MatchString(n.Value):
		return errors.New("JSON has no such number: quote it if it is a string")
	case isOtherNumber(n.Value):
		return errors.New("some YAML parsers read this as a number: put it in quotes")
	}
	return n.Value
}

// isOtherNumber reports whether a string is a number for some parsers. Some ignore tabs.
func isOtherNumber(value string) bool {
	joined := strings.ReplaceAll(value, "\t", "")
	return otherNumber.MatchString(joined) || joined != value && (yamlFloat.MatchString(joined) || yamlNoFloat.MatchString(joined))
}

// exactNumber refuses integers that JSON parsers round (RFC 7493, section 2.2).
func exactNumber(value int64, err error) any {
	if err != nil || value >= 1<<53 || value <= -1<<53 {
		return errors.New("JSON parsers round numbers of this size: put it in quotes")
	}
	return json.Number(strconv.FormatInt(value, 10))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && scalarValue(n) == nil }
