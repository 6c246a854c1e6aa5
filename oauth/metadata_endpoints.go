package oauth

import (
	"reflect"
	"strings"
)

// Endpoints returns the URLs that the metadata has clients and APIs send requests to, or
// load in a frame, by the names of their members; those that are empty are left out. Links
// for people, such as op_policy_uri, are not among them.
//
// It reads the struct itself, so that a new endpoint is never forgotten by who checks them.
func (m *ServerMetadata) Endpoints() map[string]string {
	endpoints := map[string]string{}
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		isEndpoint := strings.HasSuffix(name, "_endpoint") || name == "jwks_uri" || name == "check_session_iframe"
		if field := v.Field(i); isEndpoint && field.Kind() == reflect.String && field.String() != "" {
			endpoints[name] = field.String()
		}
	}
	return endpoints
}
