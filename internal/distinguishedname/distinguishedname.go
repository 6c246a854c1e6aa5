// Package distinguishedname compares the subject of a certificate with a distinguished name in
// text form (RFC 4514), by the rule distinguishedNameMatch of RFC 4517, section 4.2.15: names
// are compared part by part, never as strings. Otherwise a certificate whose common name contains
// a comma could pass for another one.
package distinguishedname

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits of a name.
const (
	maxText  = 1024
	maxParts = 32
)

// Name is a distinguished name, in the order of a certificate. The text form is in the reverse
// order (RFC 4514, section 2.1).
type Name [][]attribute

// attribute is one type and value of a part of a name.
type attribute struct {
	oid string
	// text is the prepared value of a string; der is the encoding of any other value.
	text string
	der  string
}

// OfSubject returns the name in the DER encoding of a certificate's subject.
func OfSubject(der []byte) (Name, error) {
	type typeAndValue struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type relativeSET []typeAndValue
	var parts []relativeSET
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 {
		return nil, errors.New("malformed distinguished name")
	}
	if len(parts) > maxParts {
		return nil, errors.New("the distinguished name has too many parts")
	}
	var name Name
	for _, part := range parts {
		if len(part) > maxParts {
			return nil, errors.New("a part of the distinguished name has too many attributes")
		}
		var attributes []attribute
		for _, a := range part {
			parsed, err := newAttribute(a.Type.String(), a.Value)
			if err != nil {
				return nil, err
			}
			attributes = append(attributes, parsed)
		}
		name = append(name, attributes)
	}
	return name, nil
}

// newAttribute returns an attribute with a value in DER.
func newAttribute(oid string, value asn1.RawValue) (attribute, error) {
	text, isText, err := textOf(value)
	if err != nil {
		return attribute{}, err
	}
	if !isText {
		return attribute{oid: oid, der: string(value.FullBytes)}, nil
	}
	prepared, err := prepare(text)
	return attribute{oid: oid, text: prepared}, err
}

// tagUniversalString is not in package asn1.
const tagUniversalString = 28

// textOf returns the value of a DirectoryString or IA5String.
func textOf(value asn1.RawValue) (text string, isText bool, err error) {
	if value.Class != asn1.ClassUniversal || value.IsCompound {
		return "", false, nil
	}
	switch value.Tag {
	case asn1.TagUTF8String:
		text = string(value.Bytes)
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String:
		text = string(value.Bytes)
		if strings.ContainsFunc(text, func(c rune) bool { return c > unicode.MaxASCII }) {
			return "", true, errors.New("a string in the distinguished name is not ASCII, as its type requires")
		}
	case asn1.TagBMPString:
		if len(value.Bytes)%2 != 0 {
			return "", true, errors.New("malformed string in the distinguished name")
		}
		units := make([]uint16, 0, len(value.Bytes)/2)
		for b := range slices.Chunk(value.Bytes, 2) {
			units = append(units, uint16(b[0])<<8|uint16(b[1]))
		}
		text = string(utf16.Decode(units))
	case tagUniversalString:
		return "", true, errors.New("the distinguished name has a string of an obsolete type")
	default:
		return "", false, nil
	}
	return text, true, nil
}

// prepare prepares a string for comparison (RFC 4518, section 2): letter case, compatible forms of
// characters, and the number of spaces make no difference. Control characters are refused: an embedded
// NUL ends a string in some programs.
func prepare(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", errors.New("a string in the distinguished name is not valid UTF-8")
	}
	if strings.ContainsFunc(text, func(c rune) bool {
		return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Co, c) || c == utf8.RuneError
	}) {
		return "", errors.New("a string in the distinguished name has control characters")
	}
	text = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
	return strings.Join(strings.Fields(text), " "), nil
}

// Equal reports whether two names are equal. The empty name equals no name.
func (n Name) Equal(other Name) bool {
	return len(n) > 0 && slices.EqualFunc(n, other, samePart)
}

// samePart compares the attributes of a part, which have no order.
func samePart(a, b []attribute) bool {
	if len(a) != len(b) {
		return false
	}
	rest := slices.Clone(b)
	for _, attribute := range a {
		at := slices.Index(rest, attribute)
		if at < 0 {
			return false
		}
		rest = slices.Delete(rest, at, at+1)
	}
	return true
}

// names are the OIDs of attribute types: those of RFC 4514, section 3, and others that
// certificates have.
var names = map[string]string{
	"cn": "2.5.4.3", "l": "2.5.4.7", "st": "2.5.4.8", "o": "2.5.4.10", "ou": "2.5.4.11", "c": "2.5.4.6", "street": "2.5.4.9",
	"dc": "0.9.2342.19200300.100.1.25", "uid": "0.9.2342.19200300.100.1.1",
	"sn": "2.5.4.4", "serialnumber": "2.5.4.5", "title": "2.5.4.12", "businesscategory": "2.5.4.15", "postalcode": "2.5.4.17",
	"givenname": "2.5.4.42", "dnqualifier": "2.5.4.46", "organizationidentifier": "2.5.4.97",
	"emailaddress": "1.2.840.113549.1.9.1", "e": "1.2.840.113549.1.9.1",
	"jurisdictionlocalityname": "1.3.6.1.4.1.311.60.2.1.1", "jurisdictionstateorprovincename": "1.3.6.1.4.1.311.60.2.1.2",
	"jurisdictioncountryname": "1.3.6.1.4.1.311.60.2.1.3",
}

// Parse parses a distinguished name in text form (RFC 4514, section 3). Spaces next to
// separators are ignored.
func Parse(text string) (Name, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New("the distinguished name is empty")
	case len(text) > maxText:
		return nil, fmt.Errorf("the distinguished name has more than %d bytes", maxText)
	case strings.HasPrefix(text, "/"):
		return nil, errors.New("the distinguished name begins with a slash: write it as in RFC 4514, such as CN=client,O=Example (openssl x509 -noout -subject -nameopt RFC2253)")
	}
	var name Name
	var part []attribute
	for rest, separator := text, byte(','); separator != 0; {
		keyword, value, found := strings.Cut(rest, "=")
		if !found {
			return nil, fmt.Errorf("%q is not a type and a value such as CN=client", rest)
		}
		oid, err := parseType(strings.Trim(keyword, " "))
		if err != nil {
			return nil, err
		}
		var a attribute
		if a, rest, separator, err = parseValue(oid, strings.TrimLeft(value, " ")); err != nil {
			return nil, err
		}
		part = append(part, a)
		if separator != '+' {
			name, part = append(name, part), nil
		}
		if len(name) > maxParts || len(part) > maxParts {
			return nil, errors.New("the distinguished name has too many parts")
		}
	}
	slices.Reverse(name)
	return name, nil
}

func parseType(keyword string) (string, error) {
	if oid, ok := names[strings.ToLower(keyword)]; ok {
		return oid, nil
	}
	arcs := strings.Split(keyword, ".")
	if len(arcs) < 2 || slices.ContainsFunc(arcs, func(arc string) bool {
		return arc == "" || strings.Trim(arc, "0123456789") != "" || len(arc) > 1 && arc[0] == '0'
	}) {
		return "", fmt.Errorf("%q is not a known attribute type: write its object identifier, such as 2.5.4.3", keyword)
	}
	return keyword, nil
}

// parseValue parses the value at the beginning of text. It returns what follows the separator,
// and the separator: a comma, a plus sign, or 0 at the end.
func parseValue(oid, text string) (a attribute, rest string, separator byte, err error) {
	var value []byte
	end, kept := len(text), 0 // kept is the length up to the last character that is not a space
scan:
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ',', '+':
			end, separator = i, c
			break scan
		case '"', ';', '<', '>', 0:
			return a, "", 0, fmt.Errorf("the character %q must be escaped with a backslash (RFC 4514, section 2.4)", c)
		case '\\':
			unescaped, length, err := unescape(text[i+1:])
			if err != nil {
				return a, "", 0, err
			}
			value = append(value, unescaped)
			kept, i = len(value), i+length
		default:
			if value = append(value, c); c != ' ' {
				kept = len(value)
			}
		}
	}
	if separator != 0 {
		rest = text[end+1:]
	}
	if strings.HasPrefix(text, "#") {
		a, err = parseHex(oid, strings.TrimRight(text[1:end], " "))
		return a, rest, separator, err
	}
	prepared, err := prepare(string(value[:kept]))
	if err == nil && prepared == "" {
		err = errors.New("a value in the distinguished name is empty")
	}
	return attribute{oid: oid, text: prepared}, rest, separator, err
}

// unescape returns the character that an escape without its backslash means, and how long the
// escape is.
func unescape(text string) (c byte, length int, err error) {
	if text != "" && strings.ContainsRune(` "#+,;<=>\`, rune(text[0])) {
		return text[0], 1, nil
	}
	if len(text) >= 2 {
		if b, err := hex.DecodeString(text[:2]); err == nil {
			return b[0], 2, nil
		}
	}
	return 0, 0, errors.New("a backslash must be followed by a special character or two hexadecimal digits (RFC 4514, section 2.4)")
}

// parseHex parses a value in BER, written in hexadecimal digits.
func parseHex(oid, digits string) (attribute, error) {
	der, err := hex.DecodeString(digits)
	if err != nil {
		return attribute{}, errors.New("a number sign must be followed by hexadecimal digits (RFC 4514, section 2.4)")
	}
	var value asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &value); err != nil || len(rest) > 0 {
		return attribute{}, errors.New("a hexadecimal value in the distinguished name is not valid BER")
	}
	return newAttribute(oid, value)
}
