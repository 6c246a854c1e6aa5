package demo

import (
	"context"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// scene is one client type or grant.
type scene struct {
	key, title, about string
	group             string // heading above the scene; scenes() sets it
	button            string // label of the button that starts it

	// The declared client of the scene; without a clientID there is none.
	clientID, clientSecret, clientName string
	applicationType                    string
	grantTypes, scopes                 []string
	callback                           string // path of the redirect URI; "" if the scene uses no browser
	responseType                       string // "" for code; others respond in the fragment

	// configure adds to the authorization server's configuration and starts the scene's own
	// servers (Demo.serve). It may be nil.
	configure func(*Demo, *configuration.Configuration) error
	// adjust changes the configuration of the scene's client. It may be nil.
	adjust func(*Demo, *client.Config)
	// start replaces the authorization request: it sets walk.address and walk.transaction. It may
	// be nil.
	start func(context.Context, *Demo, *walk) error
	// run replaces the API call after the code flow or, without a callback, client credentials
	// and the API call. It also does what the walk's breakage says. If it is nil, the standard
	// steps are run.
	run func(context.Context, *Demo, *walk) error
	// resume continues after the user has been at the page in walk.waits, which run has set.
	resume func(context.Context, *Demo, *walk) error

	// user returns the user of Check. If it is nil, that is the user of the demo.
	user func(*Demo) *person.Person

	breaks []breakage
}

// breakage is a way to attack or misuse a scene.
type breakage struct {
	key, title, about string
	// fresh is set if it needs a new code, and so another trip of the browser. Otherwise the
	// tokens of an earlier walk are used.
	fresh bool
	// only is set if it is just an authorization request, which never comes back.
	only bool
	// code is the expected error.
	code oauth.ErrorCode
}

// pageError is the code of an error that the authorization server shows to the user instead of
// sending it to the application.
const pageError = oauth.ErrorCode("redirect_uri_mismatch")

// scenes returns all scenes in the order of the page, which opens the first ones.
func scenes() []scene {
	groups := []struct {
		title  string
		scenes []scene
	}{
		{"Start here", []scene{webScene(), nativeScene(), serviceScene()}},
		{"More ways to sign in", []scene{backendScene(), deviceScene(), approvalScene(), passkeyScene(), secondFactorScene(), upstreamScene(), firstPartyScene()}},
		{"Workloads and AI agents", []scene{workloadScene(), mcpScene()}},
		{"APIs that call APIs", []scene{exchangeScene(), transactionScene()}},
		{"High security", []scene{stolenScene(), pushedScene(), paymentScene()}},
		{"Across organizations", []scene{assertionScene(), samlScene(), idJAGScene()}},
		{"Operations", []scene{policyScene(), statusScene(), revocationScene()}},
		{"Legacy", []scene{implicitScene(), passwordScene()}},
	}
	var all []scene
	for _, group := range groups {
		for _, s := range group.scenes {
			s.group = group.title
			all = append(all, s)
		}
	}
	return all
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
