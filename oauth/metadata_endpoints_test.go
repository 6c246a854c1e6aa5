package oauth

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Every member that contains URLs is an endpoint or a known link for end users.
func TestEveryURLInMetadataIsClassified(t *testing.T) {
	var m ServerMetadata
	v := reflect.ValueOf(&m).Elem()
	var addresses []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		kind := v.Field(i).Kind()
		switch {
		case name == "mtls_endpoint_aliases": // package client checks them
		case kind == reflect.String:
			v.Field(i).SetString("https://op.example/" + name)
			addresses = append(addresses, name)
		case kind != reflect.Bool && kind != reflect.Slice:
			t.Errorf("%s is a %s: Endpoints does not look for URLs in it", name, kind)
		case kind == reflect.Slice && v.Field(i).Type().Elem().Kind() != reflect.String:
			t.Errorf("%s is a list of another type: Endpoints does not look for URLs in it", name)
		}
	}
	links := []string{"issuer", "op_policy_uri", "op_tos_uri", "service_documentation"}
	endpoints := m.Endpoints()
	for _, name := range addresses {
		if (endpoints[name] != "") == slices.Contains(links, name) {
			t.Errorf("%s: returned as an endpoint: %v; add it to the list in this test", name, endpoints[name] != "")
		}
	}
	for _, name := range []string{"device_authorization_endpoint", "authorization_challenge_endpoint", "introspection_endpoint", "jwks_uri", "check_session_iframe"} {
		if endpoints[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}
