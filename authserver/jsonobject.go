package authserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/valetkey/valetkey/oauth"
)

// jsonObject appends the members of a JSON object to a buffer, for objects that are encoded in every
// request: encoding/json needs reflection, and sorts maps. Values are encoded as encoding/json encodes
// them, and the members are in the order of the calls.
type jsonObject struct {
	b     []byte
	names []string
	err   error // of the first value that could not be encoded
}

// jsonObjects are reused. A buffer still contains the tokens of the last object, so the next one
// overwrites it from its beginning.
var jsonObjects = sync.Pool{New: func() any { return &jsonObject{b: make([]byte, 0, 2<<10)} }}

// maxPooledObject is the size up to which a buffer is reused.
const maxPooledObject = 16 << 10

// newJSONObject returns an object without members. Call release when its bytes are no longer used.
func newJSONObject() *jsonObject {
	o := jsonObjects.Get().(*jsonObject)
	o.b = append(o.b[:0], '{')
	return o
}

func (o *jsonObject) release() {
	clear(o.names)
	o.names, o.err = o.names[:0], nil
	if cap(o.b) <= maxPooledObject {
		jsonObjects.Put(o)
	}
}

// end returns the encoded object, which is valid until release.
func (o *jsonObject) end() ([]byte, error) {
	o.b = append(o.b, '}')
	return o.b, o.err
}

// name appends the name of a member.
func (o *jsonObject) name(name string) {
	if len(o.names) > 0 {
		o.b = append(o.b, ',')
	}
	o.names = append(o.names, name)
	o.b = append(appendJSONString(o.b, name), ':')
}

// text appends a member unless its value is "".
func (o *jsonObject) text(name, value string) {
	if value != "" {
		o.anyText(name, value)
	}
}

// anyText appends a member, also if its value is "".
func (o *jsonObject) anyText(name, value string) {
	o.name(name)
	o.b = appendJSONString(o.b, value)
}

// number appends a member unless its value is 0.
func (o *jsonObject) number(name string, value int64) {
	if value != 0 {
		o.anyNumber(name, value)
	}
}

// anyNumber appends a member, also if its value is 0.
func (o *jsonObject) anyNumber(name string, value int64) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, value, 10)
}

// boolean appends a member.
func (o *jsonObject) boolean(name string, value bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, value)
}

// array appends a member unless it is empty.
func (o *jsonObject) array(name string, values []string) {
	if len(values) == 0 {
		return
	}
	o.name(name)
	o.b = append(o.b, '[')
	for i, value := range values {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendJSONString(o.b, value)
	}
	o.b = append(o.b, ']')
}

// audience appends a member unless it is empty. A single value is a string, as in oauth.Audience.
func (o *jsonObject) audience(name string, values []string) {
	switch len(values) {
	case 1:
		o.anyText(name, values[0])
	default:
		o.array(name, values)
	}
}

// value appends a member of any type.
func (o *jsonObject) value(name string, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		if o.err == nil {
			o.err = fmt.Errorf("encode %s: %w", name, err)
		}
		return
	}
	o.name(name)
	o.b = append(o.b, encoded...)
}

// objects appends an array of encoded objects unless it is empty.
func (o *jsonObject) objects(name string, values []json.RawMessage) {
	if len(values) > 0 {
		o.value(name, values)
	}
}

// claims appends the claims whose names the object does not have yet, sorted by name.
func (o *jsonObject) claims(claims oauth.Claims) {
	if len(claims) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if !slices.Contains(o.names, name) {
			o.value(name, claims[name])
		}
	}
}

// plainInJSON has the bytes that encoding/json does not escape.
var plainInJSON = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return plain
}()

// appendJSONString appends s as encoding/json encodes it.
func appendJSONString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if !plainInJSON[s[i]] {
			encoded, err := json.Marshal(s)
			if err != nil { // strings always encode
				return append(b, `""`...)
			}
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
