package demo

import (
	"context"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// scene is one client type or grant.
type scene struct {
	key, title, about string
	button            string // what starts it

	// The client of the scene; with no clientID the scene has none that is declared.
	clientID, clientSecret, clientName string
	applicationType                    string
	grantTypes, scopes                 []string
	callback                           string // path of the redirect URI; "" without a browser
	responseType                       string // "" for code; others answer in the fragment

	// configure adds what the scene needs to the authorization server's configuration,
	// and starts its own servers (Demo.serve); nil for nothing.
	configure func(*Demo, *configuration.Configuration) error
	// run takes the place of the call of the API after the code flow, or, without a
	// callback, of client credentials and that call. It does what the walk's breakage
	// says. nil for the plain steps.
	run func(context.Context, *Demo, *walk) error
	// resume goes on after the person was at the page that run left in walk.waits.
	resume func(context.Context, *Demo, *walk) error

	breaks []breakage
}

// breakage is a way to do a scene wrong.
type breakage struct {
	key, title, about string
	// fresh says that it needs a new code, so that the browser is sent round first.
	// Without it, tokens of an earlier walk will do.
	fresh bool
	// only says that it is an authorization request alone, which never comes back.
	only bool
	// code is the error that must come back.
	code oauth.ErrorCode
}

// pageError is the code of an error that the authorization server shows to the person
// instead of sending it to the application.
const pageError = oauth.ErrorCode("redirect_uri_mismatch")

// scenes are shown in this order; the first ones are open when the page is.
func scenes() []scene {
	return []scene{webScene(), nativeScene(), serviceScene(), deviceScene(), implicitScene(), passwordScene(), firstPartyScene(), workloadScene(), backendScene(), exchangeScene(), transactionScene(), idJAGScene(), assertionScene(), samlScene(), mcpScene(), policyScene(), statusScene(), revocationScene()}
}

const openScenes = 3

func sceneNamed(key string) *scene {
	for _, s := range scenes() {
		if s.key == key {
			return &s
		}
	}
	return nil
}

func (s *scene) breakNamed(key string) *breakage {
	for _, b := range s.breaks {
		if b.key == key {
			return &b
		}
	}
	return nil
}
