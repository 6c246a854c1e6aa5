package identity

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

// The fast decoder accepts what is usual, and never differs from encoding/json.
func TestSessionsAreDecodedAsEncodingJSONDoes(t *testing.T) {
	for _, d := range []sessionData{
		{User: "u", AuthTime: 1893585600000, AMR: []string{"pwd", "otp"}, ACR: "1", UserAgent: "Mozilla/5.0 (X11; Linux x86_64)", Remote: netip.MustParseAddr("192.0.2.1"), Former: []string{"a", "b"}},
		{User: "u", AuthTime: 1, Remote: netip.MustParseAddr("2001:db8::1"), Left: []string{"corp.a"}, SignedInAt: 2},
	} {
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decodePlainSession(string(data)); !ok || !reflect.DeepEqual(got, d) {
			t.Errorf("%s: got %+v, %v", data, got, ok)
		}
	}
	for _, data := range []string{
		`{"user":"u","auth_time":1,"user_agent":"a <b>"}`, `{"user":"u","auth_time":1,"user_agent":"\u003c"}`, `{"user":"\"","auth_time":-1}`,
		`{"user":"u","auth_time":1,"remote":"x"}`, `{"user":"u","auth_time":1,"more":[]}`, `{"user":"u","auth_time":1} `, `{}`, ``, `{"user":"u"`, `null`,
		`{"USER":"u","auth_time":1}`, `{"user":"u","auth_time":01}`, `{"user":"é","auth_time":1}`, `{"user":"u","auth_time":1,"remote":""}`,
	} {
		var want sessionData
		failed := json.Unmarshal([]byte(data), &want)
		if got, ok := decodePlainSession(data); ok && (failed != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%s: got %+v, want %+v, %v", data, got, want, failed)
		}
		got, err := decodeSession([]byte(data))
		if (err == nil) != (failed == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decoded %+v, %v, want %+v, %v", data, got, err, want, failed)
		}
	}
}
