package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/storage/record"
)

const partyThief = "thief"

func stolenScene() scene {
	return scene{
		key: "stolen", title: "Stolen tokens: bearer and bound (DPoP)", button: "Sign in, and steal both kinds of token",
		about:    "A thief has copied tokens from a log file. A bearer token works for anyone who has it. A token that is bound to a key (RFC 9449) works only together with a proof, which the app signs for each request with a key that never leaves it.",
		clientID: "wallet", clientName: "Photo wallet", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{scopeRead}, callback: "/stolen/callback",
		adjust: func(_ *Demo, config *client.Config) { config.DPoP = true },
		configure: func(_ *Demo, config *configuration.Configuration) error {
			for i := range config.Clients { // nothing in this scene waits for tokens to expire
				if c := &config.Clients[i]; c.ID == "wallet" {
					c.AccessTokenLifetime = record.Duration(sceneLifetime)
				}
			}
			return nil
		},
		run: runStolen,
		breaks: []breakage{
			{key: "bearer", title: "Bound token as a bearer token", about: "The thief sends the bound token like a bearer token.", fresh: true, code: oauth.InvalidToken},
			{key: "no-proof", title: "Bound token without a proof", about: "The thief sends the bound token without a proof.", fresh: true, code: oauth.InvalidDPoPProof},
			{key: "own-key", title: "Proof of another key", about: "The thief signs a proof with their own key.", fresh: true, code: oauth.InvalidToken},
			{key: "copied", title: "Stolen proof", about: "The thief has copied a proof together with the token, and sends both again.", fresh: true, code: oauth.InvalidDPoPProof},
			{key: "other", title: "Stolen proof, another request", about: "The thief uses a copied proof to delete a photo.", fresh: true, code: oauth.InvalidDPoPProof},
			{key: "refresh", title: "Stolen refresh token", about: "The thief uses the refresh token, with a proof of their own key.", fresh: true, code: oauth.InvalidGrant},
		},
	}
}

func runStolen(ctx context.Context, d *Demo, w *walk) error {
	bound := w.tokens
	key := bound.DPoPKey
	address := d.api + "/photos"
	proof, err := key.Proof(http.MethodGet, address, bound.AccessToken, "")
	if err != nil {
		return err
	}
	switch w.breakKey() {
	case "":
		if err := d.present(ctx, w, partyApp, http.MethodGet, address, "DPoP", bound.AccessToken, proof, "Call the API with the bound token and a proof. The proof is signed for this method, this address and this token, and is used once (RFC 9449, section 4)."); err != nil || w.failed {
			return err
		}
		bearer, err := d.clients["service"].ClientCredentials(recorded(ctx, &w.recording, "For comparison, another app gets a bearer token. Nothing ties it to the app (RFC 6750, section 5.2)."))
		if err != nil {
			return w.refused(err)
		}
		return d.present(ctx, w, partyThief, http.MethodGet, address, "Bearer", bearer.AccessToken, "", "The thief calls the API with the stolen bearer token. It works: whoever has it can use it until it expires. Now try the bound token with the buttons (RFC 9700, section 2.2.1).")
	case "bearer":
		return d.present(ctx, w, partyThief, http.MethodGet, address, "Bearer", bound.AccessToken, "", "The thief sends the bound token as a bearer token. Its cnf claim says that it is bound to a key, so the API requires a proof (RFC 9449, section 7.2).")
	case "no-proof":
		return d.present(ctx, w, partyThief, http.MethodGet, address, "DPoP", bound.AccessToken, "", "The thief sends the bound token without a proof. The API requires one (RFC 9449, section 7.1).")
	case "own-key":
		own, err := dpop.GenerateKey()
		if err != nil {
			return err
		}
		if proof, err = own.Proof(http.MethodGet, address, bound.AccessToken, ""); err != nil {
			return err
		}
		return d.present(ctx, w, partyThief, http.MethodGet, address, "DPoP", bound.AccessToken, proof, "The thief sends a proof of their own key. Its thumbprint is not the one in the token (RFC 9449, section 7.1).")
	case "copied", "other":
		if err := d.present(ctx, w, partyApp, http.MethodGet, address, "DPoP", bound.AccessToken, proof, "The app calls the API. The thief copies the whole request."); err != nil || w.failed {
			return err
		}
		if w.breakKey() == "copied" {
			return d.present(ctx, w, partyThief, http.MethodGet, address, "DPoP", bound.AccessToken, proof, "The thief sends the copied request again. The API remembers the proofs that it has accepted (RFC 9449, section 11.1).")
		}
		return d.present(ctx, w, partyThief, http.MethodDelete, d.api+"/photos/1", "DPoP", bound.AccessToken, proof, "The thief sends the copied proof with another request. A proof is for one method and one address (RFC 9449, section 4.3).")
	case "refresh":
		own, err := dpop.GenerateKey()
		if err != nil {
			return err
		}
		thief, err := client.New(d.clients[w.scene.key].Metadata(), client.Config{
			Issuer: d.issuer, ClientID: w.scene.clientID, DPoPKey: own, HTTPClient: &http.Client{Transport: d.recorder()},
		})
		if err != nil {
			return fmt.Errorf("the thief's client: %w", err)
		}
		_, err = thief.Refresh(recordedFrom(ctx, &w.recording, partyThief, "The thief uses the stolen refresh token with a proof of their own key. The refresh token of a public client is bound to the app's key, too (RFC 9449, section 5)."), &client.Tokens{RefreshToken: bound.RefreshToken})
		return w.refused(err)
	}
	return fmt.Errorf("unknown breakage %q", w.breakKey())
}

// present sends a request with a token and, unless it is "", a proof.
func (d *Demo) present(ctx context.Context, w *walk, from, method, address, scheme, token, proof, purpose string) error {
	request, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, from, purpose), method, address, nil)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	request.Header.Set("Authorization", scheme+" "+token)
	if proof != "" {
		request.Header.Set(dpop.HeaderProof, proof)
	}
	return d.deliver(w, request)
}

// changed returns an address with another value of a query parameter.
func changed(address, name, value string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("read the authorization URL: %w", err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String(), nil
}
