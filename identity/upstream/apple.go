package upstream

import (
	"crypto"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// appleSecretLifetime is longer than a client is used without being created again (metadataKept).
const appleSecretLifetime = metadataKept + time.Hour

// appleSecret creates the secret of a client of Apple: a JWT signed with ES256
// (https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret).
func appleSecret(c *Config, key crypto.Signer, now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.ES256, c.KeyID, key)
	if err != nil {
		return "", fmt.Errorf("private_key_file: %w", err)
	}
	payload, err := json.Marshal(map[string]any{
		"iss": c.TeamID, "iat": now.Unix(), "exp": now.Add(appleSecretLifetime).Unix(), "aud": c.Issuer, "sub": c.ClientID,
	})
	if err != nil {
		return "", fmt.Errorf("encode the client secret: %w", err)
	}
	secret, err := signer.Sign("JWT", payload)
	if err != nil {
		return "", fmt.Errorf("sign the client secret: %w", err)
	}
	return secret, nil
}

// addAppleName adds the name from the parameter user, which Apple sends only when the user signs in
// for the first time. It is not signed, and its address is ignored: the one in the ID token counts.
func addAppleName(claims map[string]any, parameter string) {
	var user struct {
		Name struct {
			First string `json:"firstName"`
			Last  string `json:"lastName"`
		} `json:"name"`
	}
	if len(parameter) > 4096 || json.Unmarshal([]byte(parameter), &user) != nil {
		return
	}
	set := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" && len(value) <= 256 && claims[name] == nil {
			claims[name] = value
		}
	}
	set("given_name", user.Name.First)
	set("family_name", user.Name.Last)
	set("name", user.Name.First+" "+user.Name.Last)
}
