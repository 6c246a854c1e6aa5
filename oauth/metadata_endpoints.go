package oauth

import (
	"reflect"
	"strings"
)

// Endpoints returns the non-empty URLs that clients and APIs send requests to or load in a
// frame, by the names of their members. Links for end users, such as op_policy_uri, are not
// included, and neither are MTLSEndpointAliases, which have the same names.
//
// It walks the struct, so that code that checks the endpoints cannot miss a new one.
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
