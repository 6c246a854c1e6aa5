package clientaddress

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestClientAddressBehindProxies(t *testing.T) {
	trusting, err := New([]string{"10.0.0.0/8", "fd00::/8", "192.0.2.7"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		proxies   Proxies
		peer      string
		forwarded []string
		want      string
	}{
		{"OR-05: no proxy is trusted by default", Proxies{header: HeaderXForwardedFor}, "10.0.0.1:5", []string{"198.51.100.1"}, "10.0.0.1"},
		{"a client forges the header", trusting, "203.0.113.5:5", []string{"198.51.100.1"}, "203.0.113.5"},
		{"through one proxy", trusting, "10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a client behind a proxy forges the header", trusting, "10.0.0.1:5", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"through two proxies", trusting, "10.0.0.1:5", []string{"1.1.1.1, 198.51.100.1, 192.0.2.7"}, "198.51.100.1"},
		{"header twice", trusting, "10.0.0.1:5", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		{"DS-14: a name is not looked up", trusting, "10.0.0.1:5", []string{"1.1.1.1, evil.test"}, "10.0.0.1"},
		{"with a port, as Azure sends it", trusting, "10.0.0.1:5", []string{"1.1.1.1, 198.51.100.1:50813"}, "198.51.100.1"},
		{"through two proxies with ports", trusting, "10.0.0.1:5", []string{"198.51.100.1:50813, 192.0.2.7:443"}, "198.51.100.1"},
		{"an invalid port", trusting, "10.0.0.1:5", []string{"198.51.100.1:x"}, "10.0.0.1"},
		{"IPv6 in brackets", trusting, "10.0.0.1:5", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 in brackets with a port", trusting, "10.0.0.1:5", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"IPv4 in brackets", trusting, "10.0.0.1:5", []string{"[198.51.100.1]"}, "10.0.0.1"},
		{"a quote does not hide what a proxy wrote", trusting, "10.0.0.1:5", []string{"\", 198.51.100.1"}, "198.51.100.1"},
		{"no header", trusting, "10.0.0.1:5", nil, "10.0.0.1"},
		{"mapped IPv4", trusting, "[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"IPv6", trusting, "[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.peer
		for _, value := range test.forwarded {
			r.Header.Add("X-Forwarded-For", value)
		}
		if got := test.proxies.Of(r); got.String() != test.want {
			t.Errorf("%s: %v instead of %s", test.name, got, test.want)
		}
	}
}

func TestForwardedOfRFC7239(t *testing.T) {
	trusting, err := New([]string{"10.0.0.0/8", "fd00::/8"}, "Forwarded")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		peer, forwarded, want string
	}{
		{"10.0.0.1:5", "for=198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:5", `For="[2001:db8:cafe::17]:4711"`, "2001:db8:cafe::17"},
		{"10.0.0.1:5", "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"},
		{"10.0.0.1:5", "for=1.1.1.1, for=198.51.100.17", "198.51.100.17"},
		{"10.0.0.1:5", `for=1.1.1.1, for=198.51.100.17, for="[fd00::1]"`, "198.51.100.17"},
		{"10.0.0.1:5", `for=198.51.100.17:80;host="a;for=1.1.1.1, for=1.1.1.1"`, "198.51.100.17"},
		{"10.0.0.1:5", `for=198.51.100.17;host="a\", for=1.1.1.1"`, "198.51.100.17"},
		{"10.0.0.1:5", `for=", for=198.51.100.17`, "198.51.100.17"},
		{"10.0.0.1:5", "for=1.1.1.1;for=198.51.100.17", "10.0.0.1"},
		{"10.0.0.1:5", "for=198.51.100.17, for=unknown", "10.0.0.1"},
		{"10.0.0.1:5", "for=_hidden, proto=https", "10.0.0.1"},
		{"10.0.0.1:5", `for="198.51.100.17`, "10.0.0.1"},
		{"10.0.0.1:5", "198.51.100.17", "10.0.0.1"},
		{"203.0.113.5:5", "for=198.51.100.1", "203.0.113.5"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.peer
		r.Header.Set("Forwarded", test.forwarded)
		r.Header.Set("X-Forwarded-For", "6.6.6.6") // the other header is ignored
		if got := trusting.Of(r); got.String() != test.want {
			t.Errorf("%s: %v instead of %s", test.forwarded, got, test.want)
		}
	}
	if _, err := New(nil, "X-Real-IP"); err == nil {
		t.Error("any header is accepted")
	}
}
