package oauth

import "testing"

func TestSameResource(t *testing.T) {
	for _, same := range [][2]string{
		{"https://notes.example.com", "https://notes.example.com/"},
		{"https://notes.example.com", "HTTPS://Notes.Example.COM"},
		{"https://notes.example.com", "https://notes.example.com:443"},
		{"https://notes.example.com", "https://notes.example.com:/"},
		{"http://localhost", "http://LOCALHOST:80/"},
		{"https://notes.example.com?v=1", "https://notes.example.com/?v=1"},
		{"https://[2001:DB8::1]/api", "https://[2001:db8::1]:443/api"},
		{"api://Notes/v1", "API://notes/v1"},
		{"urn:example:notes", "URN:example:notes"},
		{"notes", "notes"},
	} {
		if !SameResource(same[0], same[1]) || !SameResource(same[1], same[0]) {
			t.Errorf("%s and %s should be the same", same[0], same[1])
		}
	}
	for _, other := range [][2]string{
		{"https://notes.example.com", "http://notes.example.com"},
		{"https://notes.example.com", "https://notes.example.com:8443"},
		{"https://notes.example.com", "https://notes.example.com:80"},
		{"https://notes.example.com", "https://notes.example.com.evil.test"},
		{"https://notes.example.com", "https://notes.example.com@evil.test"},
		{"https://notes.example.com", "https://notes.example.com#"},
		{"https://notes.example.com/api", "https://notes.example.com/api/"},
		{"https://notes.example.com/api", "https://notes.example.com/API"},
		{"https://notes.example.com/a", "https://notes.example.com/./a"},
		{"https://notes.example.com/a", "https://notes.example.com/%61"},
		{"https://Ann@notes.example.com/", "https://ann@notes.example.com/"},
		{"https://notes.example.com/?V", "https://notes.example.com/?v"},
		{"urn:example:notes", "urn:example:Notes"},
		{"api://notes", "api://notes/"},
		{"notes", "Notes"},
		{"https://notes.example.com", "https:notes.example.com"},
		{"https://notes.example.com", ""},
	} {
		if SameResource(other[0], other[1]) || SameResource(other[1], other[0]) {
			t.Errorf("%s and %s should differ", other[0], other[1])
		}
	}
}
