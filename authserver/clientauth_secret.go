package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

var ruleBasicSyntax = rule{
	must:    "the Authorization header is Basic with form-encoded client_id and client_secret",
	section: "RFC 6749, section 2.3.1", code: oauth.InvalidClient,
	says: "the Authorization header cannot be read as HTTP Basic client credentials",
	mend: "form-encode client_id and client_secret, join them by a colon, and base64 the whole",
}

// client_secret_basic carries the secret in the Authorization header.
func presentsBasic(c *call) bool { return len(c.r.Header["Authorization"]) > 0 }

func basicClientID(c *call) (string, error) {
	id, _, ok := basicCredentials(c.r.Header["Authorization"])
	if !ok || id == "" {
		return "", c.refuse(&ruleBasicSyntax, "")
	}
	return id, nil
}

func (c *clientCheck) secret() {
	if c.secretBytes() == 0 {
		c.report("", "%s needs a client_secret", c.TokenEndpointAuthMethod)
	}
}

func verifyBasic(c *call, cl *client) error {
	_, secret, _ := basicCredentials(c.r.Header["Authorization"])
	return verifySecret(cl, secret)
}

// client_secret_post carries the secret in the body.
func presentsPost(c *call) bool { return c.params.has("client_secret") }

func postedClientID(c *call) (string, error) {
	id := c.params.get("client_id")
	return id, c.must(id != "", &ruleClientNamed)
}

func verifyPost(c *call, cl *client) error { return verifySecret(cl, c.params.get("client_secret")) }

// basicCredentials reads HTTP Basic, whose parts are form-encoded (RFC 6749, section
// 2.3.1 and appendix B).
func basicCredentials(headers []string) (id, secret string, ok bool) {
	if len(headers) != 1 {
		return "", "", false
	}
	scheme, encoded, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Basic") || len(encoded) > 4096 {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	id, secret, ok = strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", false
	}
	if id, ok = formDecode(id); !ok {
		return "", "", false
	}
	if secret, ok = formDecode(secret); !ok {
		return "", "", false
	}
	return id, secret, true
}

func formDecode(s string) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	decoded, err := url.QueryUnescape(s)
	return decoded, err == nil
}

// verifySecret compares a secret with those that the client has, in constant time. An
// unknown client costs the same.
func verifySecret(cl *client, secret string) error {
	hash := sha256.Sum256([]byte(secret))
	if cl == nil {
		subtle.ConstantTimeCompare(hash[:], make([]byte, sha256.Size))
		return errCredentials("no such client")
	}
	same := 0
	for i := range cl.secretHashes {
		same |= subtle.ConstantTimeCompare(hash[:], cl.secretHashes[i][:])
	}
	if same != 1 || secret == "" {
		return errCredentials("the secret is wrong")
	}
	return nil
}
