package main

import (
	"net/url"
	"testing"
)

func TestURLInAScript(t *testing.T) {
	for script, want := range map[string]string{
		`https:\/\/rp.example\/logout?a=1&amp;b=<2>`: "https://rp.example/logout?a=1&b=%3C2%3E",
		`https://rp.example/?sid=1@#%:[%41`:          "https://rp.example/?sid=1@#%25:[%41",
		`https://rp.example/?sid=%:`:                 "https://rp.example/?sid=%:",
	} {
		got := jsUnescape(script)
		if got != want {
			t.Errorf("%s is %s, want %s", script, got, want)
		}
		if _, err := url.Parse(got); err != nil {
			t.Error(err)
		}
	}
}
