package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/oauth"
)

var ruleBasicSyntax = rule{
	must:    "the Authorization header is Basic with client_id and client_secret",
	section: "RFC 6749, section 2.3.1", code: oauth.InvalidClient,
	says: "the Authorization header cannot be read as HTTP Basic client credentials",
	fix:  "form-encode client_id and client_secret, join them by a colon, and base64 the whole",
}

// client_secret_basic carries the secret in the Authorization header.
func presentsBasic(c *call) bool { return len(c.r.Header["Authorization"]) > 0 }

// basicClientID returns the client_id after form-decoding it. It is the client_id as it came
// where that one is registered and the decoded one is not, or where the body names it.
func basicClientID(c *call) (string, error) {
	raw, decoded, ok := basicPart(c.r.Header["Authorization"], 0)
	if !ok || raw == "" || !utf8.ValidString(raw) || strings.Contains(decoded, "\x00") {
		return "", c.refuse(&ruleBasicSyntax, "")
	}
	if raw == decoded || c.params.get("client_id") == decoded || oauth.IsClientIDURL(decoded) {
		return decoded, nil
	}
	if c.params.get("client_id") == raw {
		return raw, nil
	}
	_, err := c.clientByID(decoded)
	if errors.Is(err, errUnknownClient) {
		if _, err := c.clientByID(raw); err == nil {
			return raw, nil
		}
		return decoded, nil
	}
	return decoded, err
}

func (c *clientCheck) secret() {
	if c.secretBytes() == 0 {
		c.report("", "%s needs a client_secret", c.TokenEndpointAuthMethod)
	}
}

// verifyBasic takes the secret form-decoded, as RFC 6749, section 2.3.1 has it, or as it
// came: half of the clients do not encode it. Both are compared, whatever the first says.
func verifyBasic(c *call, cl *client) error {
	raw, decoded, _ := basicPart(c.r.Header["Authorization"], 1)
	failed, failedRaw := verifySecret(cl, decoded), verifySecret(cl, raw)
	switch {
	case raw == decoded:
		return failed
	case failed == nil:
		c.credentials = "the secret was form-encoded"
		return nil
	case failedRaw == nil:
		c.credentials = "the secret was not form-encoded, and was taken as it came"
		return nil
	case cl != nil:
		return errCredentials("the secret is wrong, both form-decoded and as it came")
	}
	return failed
}

// client_secret_post carries the secret in the body.
func presentsPost(c *call) bool { return c.params.has("client_secret") }

func postedClientID(c *call) (string, error) {
	id := c.params.get("client_id")
	return id, c.must(id != "", &ruleClientNamed)
}

func verifyPost(c *call, cl *client) error { return verifySecret(cl, c.params.get("client_secret")) }

// basicPart returns the client_id (part 0) or the secret (part 1) of HTTP Basic, as it came
// and form-decoded (RFC 6749, section 2.3.1 and appendix B). What cannot be decoded was not
// encoded.
func basicPart(headers []string, part int) (raw, decoded string, ok bool) {
	if len(headers) != 1 {
		return "", "", false
	}
	scheme, encoded, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Basic") || len(encoded) > 4096 {
		return "", "", false
	}
	credentials, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	parts := strings.SplitN(string(credentials), ":", 2)
	if len(parts) != 2 {
		return "", "", false
	}
	raw = parts[part]
	if decoded, err = url.QueryUnescape(raw); err != nil || !utf8.ValidString(decoded) {
		decoded = raw
	}
	return raw, decoded, true
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
