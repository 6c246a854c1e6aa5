// Command zitadel signs a user in with zitadel/oidc. Its refresh sends the client's
// secret in the body and its introspection sends it in the header, so a client that is
// registered for only one method cannot use it. Settings come from the environment; see
// node/signin.mjs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := signIn(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func signIn(ctx context.Context) error {
	issuer, clientID, secret := os.Getenv("ISSUER"), os.Getenv("CLIENT_ID"), os.Getenv("CLIENT_SECRET")
	party, err := rp.NewRelyingPartyOIDC(ctx, issuer, clientID, secret, os.Getenv("REDIRECT_URI"),
		[]string{"openid", "profile", "email", "offline_access", os.Getenv("API_SCOPE")})
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	verifier := oauth2.GenerateVerifier()
	fmt.Println(rp.AuthURL("the-state", party, rp.WithCodeChallenge(oauth2.S256ChallengeFromVerifier(verifier))))
	lines := bufio.NewScanner(os.Stdin)
	if !lines.Scan() {
		return lines.Err()
	}
	callback, err := url.Parse(lines.Text())
	if err != nil {
		return err
	}
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](ctx, callback.Query().Get("code"), party, rp.WithCodeVerifier(verifier))
	if err != nil {
		return fmt.Errorf("redeem the code: %w", err)
	}
	info, err := rp.Userinfo[*oidc.UserInfo](ctx, tokens.AccessToken, "Bearer", tokens.IDTokenClaims.Subject, party)
	if err != nil {
		return fmt.Errorf("UserInfo: %w", err)
	}
	api, _, err := call(ctx, tokens.AccessToken)
	if err != nil {
		return err
	}
	refreshed, err := rp.RefreshTokens[*oidc.IDTokenClaims](ctx, party, tokens.RefreshToken, "", "")
	if err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	apiRefreshed, _, err := call(ctx, refreshed.AccessToken)
	if err != nil {
		return err
	}
	server, err := rs.NewResourceServerClientCredentials(ctx, issuer, clientID, secret)
	if err != nil {
		return fmt.Errorf("resource server: %w", err)
	}
	before, err := rs.Introspect[*oidc.IntrospectionResponse](ctx, server, refreshed.AccessToken)
	if err != nil {
		return fmt.Errorf("introspection: %w", err)
	}
	if err := rp.RevokeToken(ctx, party, refreshed.RefreshToken, "refresh_token"); err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	after, err := rs.Introspect[*oidc.IntrospectionResponse](ctx, server, refreshed.AccessToken)
	if err != nil {
		return fmt.Errorf("introspection: %w", err)
	}
	_, status, err := call(ctx, refreshed.AccessToken)
	if err != nil {
		return err
	}
	refusal := "none"
	_, err = rp.RefreshTokens[*oidc.IDTokenClaims](ctx, party, refreshed.RefreshToken, "", "")
	if protocol, ok := errors.AsType[*oidc.Error](err); ok {
		refusal = string(protocol.ErrorType)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"subject": tokens.IDTokenClaims.Subject, "name": info.Name, "email": info.Email, "api": api,
		"rotated": refreshed.RefreshToken != tokens.RefreshToken, "api_refreshed": apiRefreshed,
		"active_before": before.Active, "active_after": after.Active, "api_after": status, "refusal": refusal,
	})
}

// call calls the API and returns the subject that it saw.
func call(ctx context.Context, token string) (subject string, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("API_URL"), nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, fmt.Errorf("call the API: %w", err)
	}
	defer response.Body.Close()
	var caller struct {
		Subject string `json:"subject"`
	}
	if response.StatusCode == http.StatusOK {
		err = json.NewDecoder(response.Body).Decode(&caller)
	}
	return caller.Subject, response.StatusCode, err
}
