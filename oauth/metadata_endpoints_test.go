package oauth

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Every member that is an address is an endpoint, or is known to be a link for people.
func TestEveryAddressInMetadataIsKnown(t *testing.T) {
	var m ServerMetadata
	v := reflect.ValueOf(&m).Elem()
	var addresses []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		kind := v.Field(i).Kind()
		switch {
		case kind == reflect.String:
			v.Field(i).SetString("https://op.example/" + name)
			addresses = append(addresses, name)
		case kind != reflect.Bool && kind != reflect.Slice:
			t.Errorf("%s is a %s: Endpoints does not look for addresses in it", name, kind)
		case kind == reflect.Slice && v.Field(i).Type().Elem().Kind() != reflect.String:
			t.Errorf("%s is a list of something: Endpoints does not look for addresses in it", name)
		}
	}
	links := []string{"issuer", "op_policy_uri", "op_tos_uri", "service_documentation"}
	endpoints := m.Endpoints()
	for _, name := range addresses {
		if (endpoints[name] != "") == slices.Contains(links, name) {
			t.Errorf("%s: an endpoint %v; say which it is", name, endpoints[name] != "")
		}
	}
	for _, name := range []string{"device_authorization_endpoint", "authorization_challenge_endpoint", "introspection_endpoint", "jwks_uri", "check_session_iframe"} {
		if endpoints[name] == "" {
			t.Errorf("%s is forgotten", name)
		}
	}
}
