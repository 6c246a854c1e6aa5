package authserver

import (
	"fmt"

	"github.com/valetkey/valetkey/internal/editdistance"
)

// nearestDifference shows the registered URI that is nearest to what was sent, and where
// they part. It is for the operator: a stranger must not learn what is registered.
func nearestDifference(registered []string, sent string) string {
	if len(registered) == 0 {
		return "the client has no redirect_uris; sent: " + sent
	}
	sent = clip(sent)
	nearest, least := registered[0], -1
	for _, uri := range registered {
		if d := editdistance.Between(uri, sent); least < 0 || d < least {
			nearest, least = uri, d
		}
	}
	return difference(nearest, sent)
}

// difference shows two strings and the place of the first character in which they differ.
func difference(expected, sent string) string {
	at := 0
	for at < len(expected) && at < len(sent) && expected[at] == sent[at] {
		at++
	}
	show := func(s string) string {
		if at < len(s) {
			return fmt.Sprintf("%q", s[at])
		}
		return "the end"
	}
	return fmt.Sprintf("expected %s, got %s; they differ at character %d: %s instead of %s", expected, sent, at+1, show(sent), show(expected))
}
