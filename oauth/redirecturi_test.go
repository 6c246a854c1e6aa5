package oauth

import "testing"

func TestRU02_RU03_RU04_RU07_RU08_RU10_InvalidRedirectURIsAreRejected(t *testing.T) {
	for id, uris := range map[string][]string{
		"RU-02": {"https://app.example@evil.test", "https://a:b@app.example/", "https://@app.example/"},
		"RU-03": {"https://app.example/cb/../x", "https://app.example/..;/x", "https://app.example/%2e%2e/x", "https://app.example\\x", "https://app.example/."},
		"RU-04": {"javascript:alert(1)", "JaVaScRiPt:alert(1)", "\tjavascript:alert(1)", " javascript:x", "data:text/html,x", "vbscript:x", "blob:https://a/b", "file:///etc/passwd", "about:blank", "ftp://app.example/"},
		"RU-07": {"http://app.example/cb", "http://127.0.0.1.evil.test/cb", "http://10.0.0.1/cb", "http:///cb"},
		"RU-08": {"myapp://cb", "myapp:/cb", "com.example.app://user@host/cb", "com.example.app:/cb#x"},
		"RU-10": {"https://app.example/cb#x", "https://app.example/cb#"},
		"form":  {"", "/cb", "//app.example/cb", "https:app.example", "https:///cb", "https://app.example/é", "https://app.example/\x00", "https://[::1", "app.example/cb"},
	} {
		for _, uri := range uris {
			for _, application := range []string{ApplicationWeb, ApplicationNative} {
				if CheckRedirectURI(uri, application) == nil {
					t.Errorf("%s: %q is accepted for %s", id, uri, application)
				}
			}
		}
	}
	if CheckRedirectURI("com.example.app:/cb", ApplicationWeb) == nil {
		t.Error("a private-use scheme is accepted for a web application")
	}
	for _, uri := range []string{"https://app.example", "https://app.example/cb?a=b", "http://127.0.0.1/cb", "http://[::1]:80/cb", "http://localhost:3000/"} {
		if err := CheckRedirectURI(uri, ApplicationWeb); err != nil {
			t.Errorf("%q: %v", uri, err)
		}
	}
	// The example of RFC 8252, section 7.1, and a form that some frameworks use.
	for _, uri := range []string{"com.example.app:/oauth2redirect/example-provider", "com.example.app://host/cb"} {
		if err := CheckRedirectURI(uri, ApplicationNative); err != nil {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestRU04_RU08_ListedSchemes(t *testing.T) {
	for _, application := range []string{ApplicationWeb, ApplicationNative} {
		for _, uri := range []string{"cursor://anysphere.cursor-retrieval/oauth/callback", "oc://android.owncloud.com", "oc:/cb"} {
			if err := CheckRedirectURI(uri, application, "cursor", "oc"); err != nil {
				t.Errorf("%q: %v", uri, err)
			}
		}
		for _, uri := range []string{"cursors://cb", "cursor", "cursor://u@cb", "cursor://cb#x", "cursor://a/../b", "vscode://cb"} {
			if CheckRedirectURI(uri, application, "cursor", "oc") == nil {
				t.Errorf("%q is accepted for %s", uri, application)
			}
		}
		for scheme, uri := range map[string]string{
			"javascript": "javascript:alert(1)", "data": "data:text/html,x", "vbscript": "vbscript:x", "blob": "blob:https://a/b", "file": "file:///etc/passwd",
			"about": "about:blank", "intent": "intent://x#Intent;end", "http": "http://app.example/cb", "ws": "ws://app.example/", "filesystem": "filesystem:https://a/b",
		} {
			if CheckRedirectURI(uri, application, scheme) == nil || CheckRedirectScheme(scheme) == nil {
				t.Errorf("%q is accepted if it is listed", uri)
			}
		}
	}
	for _, scheme := range []string{"", "c", "Cursor", "cursor:", "cursor://", "1password", "a b", "é", "view-source", "ms-settings"} {
		if CheckRedirectScheme(scheme) == nil {
			t.Errorf("%q is accepted in the list", scheme)
		}
	}
	for _, scheme := range []string{"cursor", "vscode", "vscode-insiders", "oc", "audiobookshelf", "com.example.app", "org.videolan.vlc-ios"} {
		if err := CheckRedirectScheme(scheme); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestRU06_LocalhostWithoutPortMatchesAnyPort(t *testing.T) {
	for _, test := range []struct {
		registered, requested string
		want                  bool
	}{
		{"http://localhost/callback", "http://localhost:51004/callback", true},
		{"http://localhost", "http://localhost:51004", true},
		{"http://localhost?a=b", "http://localhost:1?a=b", true},
		{"http://localhost:3000/callback", "http://localhost:51004/callback", false},
		{"http://localhost/callback", "http://localhost:51004/callback2", false},
		{"http://localhost/callback", "http://localhost:51004/callback?x", false},
		{"http://localhost/callback", "http://localhost:/callback", false},
		{"http://localhost/callback", "http://localhost:123456/callback", false},
		{"http://localhost/callback", "http://localhost:1@evil.test/callback", false},
		{"http://localhost/callback", "http://localhost.evil.test:1/callback", false},
		{"http://localhost.evil.test/callback", "http://localhost.evil.test:1/callback", false},
		{"http://localhost/callback", "http://127.0.0.1:1/callback", false},
		{"http://localhost/callback", "https://localhost:1/callback", false},
		{"https://localhost/callback", "https://localhost:1/callback", false},
	} {
		if got := MatchLocalhostRedirectURI(test.registered, test.requested); got != test.want {
			t.Errorf("%q for %q: %v", test.requested, test.registered, got)
		}
	}
}

func TestDC12_ClientIDURLs(t *testing.T) {
	for _, id := range []string{"https://app.example.com/client.json", "https://a.example/", "https://a.example:8443/c", "https://[2606:4700::1]/c", "https://a.example/a%20b", "https://xn--bcher-kva.example/c"} {
		if err := CheckClientIDURL(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{
		"", "client", "http://a.example/c", "HTTPS://a.example/c", "https:/a.example/c", "https:a.example/c", "https://", "https:///c", "https://a.example", "https://a.example:/c",
		"https://a.example/c?", "https://a.example/c?x=1", "https://a.example/c#", "https://a.example/c#x", "https://u@a.example/c", "https://u:p@a.example/c", "https://@a.example/c",
		"https://a.example/./c", "https://a.example/a/../c", "https://a.example/%2e%2E/c", "https://a.example/a%2f..%2fc", "https://a.example/..;/c", "https://a.example\\c", "https://a.example/ c", "https://a.example/\u00fc", "https://b\u00fccher.example/c", "https://a.example/\x00",
	} {
		if CheckClientIDURL(id) == nil {
			t.Errorf("%q is accepted", id)
		}
	}
}

func TestMatchRedirectURI(t *testing.T) {
	for _, test := range []struct {
		registered, requested string
		want                  bool
	}{
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", true},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1/cb", true},
		{"http://[::1]/cb", "http://[::1]:61023/cb", true},
		{"http://127.0.0.1/cb", "http://[::1]/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb2", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb?x", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:x@evil.test/cb", false},
		{"http://127.0.0.1/cb", "https://127.0.0.1/cb", false},
		{"http://localhost/cb", "http://localhost:3000/cb", false},
		{"http://127.0.0.2/cb", "http://127.0.0.2:3000/cb", false},
		{"https://app.example/cb", "https://app.example:443/cb", false},
		{"https://app.example/cb", "https://app.example/cb", true},
	} {
		if got := MatchRedirectURI(test.registered, test.requested); got != test.want {
			t.Errorf("%q for %q: %v", test.requested, test.registered, got)
		}
	}
}

func TestIssuer(t *testing.T) {
	for _, issuer := range []string{"https://login.example", "https://login.example/tenant", "http://127.0.0.1:8080", "http://localhost"} {
		if err := CheckIssuer(issuer); err != nil {
			t.Errorf("%q: %v", issuer, err)
		}
	}
	for _, issuer := range []string{"", "login.example", "http://login.example", "https://login.example/", "https://login.example?x", "https://login.example#x", "https://a@login.example", "ftp://login.example"} {
		if CheckIssuer(issuer) == nil {
			t.Errorf("%q is accepted", issuer)
		}
	}
}
