package httpscript

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// names gives stable names to values that differ from run to run.
type names struct {
	values map[string]string // by name, including the $
	byText map[string]string // names by value
	counts map[string]int
}

func newNames() *names {
	return &names{values: map[string]string{}, byText: map[string]string{}, counts: map[string]int{}}
}

func (n *names) name(kind, value string) string {
	if name, ok := n.byText[value]; ok {
		return name
	}
	n.counts[kind]++
	name := fmt.Sprintf("$%s%d", kind, n.counts[kind])
	n.values[name], n.byText[value] = value, name
	return name
}

var use = regexp.MustCompile(`\$[a-z_]+[0-9]+`)

// expand replaces names with their values.
func (n *names) expand(text string) (string, error) {
	var unknown error
	text = use.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := n.values[name]
		if !ok {
			unknown = fmt.Errorf("no value is named %s yet", name)
		}
		return value
	})
	return text, unknown
}

// The patterns of values that are replaced. The coordinates of a key are omitted: its kid names it.
var (
	jwt        = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]*`)
	saml       = regexp.MustCompile(`()\b(PEFzc2VydGlvbi[\w-]{40,})`) // <Assertion, in base64url
	secret     = regexp.MustCompile(`vk_(ac|rt|at|ra|ia|dc|as|pr|br)_[\w-]{40,}`)
	parameter  = regexp.MustCompile(`(interaction=)([\w-]{22})\b`)
	approval   = regexp.MustCompile(`(request[=:] ?)([\w-]{43})\b`)
	userCode   = regexp.MustCompile(`((?:"user_code": "|user_code=|code: ))([B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4})\b`)
	state      = regexp.MustCompile(`(session_state=)([0-9a-f]{64}\.\w+)`)
	dpopNonce  = regexp.MustCompile(`(Dpop-Nonce: )([\w-]+)`)
	challenge  = regexp.MustCompile(`(Oauth-Client-Attestation-Challenge: |"attestation_challenge": ")([\w-]+)`)
	thumbprint = regexp.MustCompile(`("jkt": ")([^"]+)`)
	browser    = regexp.MustCompile(`(valetkey_browser_[0-9a-f]{12}=)(\w+)`)
	keyID      = regexp.MustCompile(`("kid": ")([^"]+)`)
	registered = regexp.MustCompile(`()\b(client-[\w-]{22})\b`)
	clientKey  = regexp.MustCompile(`("client_secret": ")([^"]+)`)
	ownServer  = regexp.MustCompile(`()(https://127\.0\.0\.1:[0-9]+)`)
	coordinate = regexp.MustCompile(`("[xyn]": ")([^"]+)`)
	reference  = regexp.MustCompile(`((?:\(|%28)ref(?: |\+)|Reference: )[0-9A-Z]{4}-[0-9A-Z]{4}`)
	member     = regexp.MustCompile(`"[^"]+"`)
)

// shorten replaces values with their names.
func (n *names) shorten(text string) string {
	text = jwt.ReplaceAllStringFunc(text, n.token)
	text = secret.ReplaceAllStringFunc(text, func(value string) string {
		name := n.name(map[string]string{"ac": "code", "rt": "refresh", "at": "access", "ra": "registration", "ia": "initial", "dc": "device", "as": "authsession", "pr": "pushed", "br": "authreqid"}[value[3:5]], value)
		n.hash(value, name)
		return name
	})
	text = reference.ReplaceAllString(text, "${1}XXXX-XXXX")
	second := func(pattern *regexp.Regexp, kind string) {
		text = pattern.ReplaceAllStringFunc(text, func(found string) string {
			parts := pattern.FindStringSubmatch(found)
			return parts[1] + n.name(kind, parts[2])
		})
	}
	second(saml, "saml")
	second(parameter, "interaction")
	second(approval, "approval")
	second(userCode, "usercode")
	second(state, "session_state")
	second(browser, "browser")
	second(dpopNonce, "nonce")
	second(challenge, "challenge")
	second(thumbprint, "jkt")
	second(keyID, "key")
	second(registered, "client")
	second(clientKey, "secret")
	second(ownServer, "host")
	text = coordinate.ReplaceAllString(text, "$1…")
	// JSON strings that were named together with their token: jti, txn, at_hash and c_hash.
	return member.ReplaceAllStringFunc(text, func(quoted string) string {
		if name, ok := n.byText[strings.Trim(quoted, `"`)]; ok {
			return `"` + name + `"`
		}
		return quoted
	})
}

// token names a JWT by its type, and also the values that depend on it.
func (n *names) token(value string) string {
	if name, ok := n.byText[value]; ok {
		return name
	}
	header, claims, err := Decode(value)
	if err != nil {
		return value
	}
	if header["typ"] == "at+jwt" {
		name := n.name("access", value)
		if id, ok := claims["jti"].(string); ok {
			n.name("jti", id)
		}
		n.hash(value, name)
		return name
	}
	if header["typ"] == "statuslist+jwt" {
		return n.name("statuslist", value)
	}
	if id, ok := claims["jti"].(string); ok && header["typ"] == "logout+jwt" {
		n.name("jti", id)
		return n.name("logout", value)
	}
	if id, ok := claims["jti"].(string); ok && header["typ"] == "oauth-id-jag+jwt" {
		n.name("jti", id)
		return n.name("idjag", value)
	}
	if id, ok := claims["txn"].(string); ok && header["typ"] == "txntoken+jwt" {
		n.name("txn", id)
		return n.name("txntoken", value)
	}
	if header["typ"] == "token-introspection+jwt" {
		return n.name("introspection", value)
	}
	if header["typ"] == "oauth-client-attestation+jwt" {
		return n.name("attestation", value)
	}
	if header["typ"] == "oauth-client-attestation-pop+jwt" {
		return n.name("possession", value)
	}
	if header["typ"] == "dpop+jwt" {
		return n.name("proof", value)
	}
	_, hasCode := claims["code"]
	_, hasError := claims["error"]
	if (hasCode || hasError) && claims["sub"] == nil && claims["aud"] != nil { // JARM
		return n.name("response", value)
	}
	if _, hasID := claims["jti"]; hasID || header["typ"] == "client-authentication+jwt" {
		return n.name("assertion", value)
	}
	return n.name("idtoken", value)
}

// hash names at_hash and c_hash by SHA-256 (OpenID Connect Core, sections 3.1.3.6 and
// 3.3.2.11).
func (n *names) hash(value, name string) {
	sum := sha256.Sum256([]byte(value))
	n.byText[base64.RawURLEncoding.EncodeToString(sum[:16])] = "hash of " + name
}

// Decode returns the header and claims of a JWT without verifying it.
func Decode(token string) (header, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("a JWT must have three parts, got %d", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		decoded, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, fmt.Errorf("decode JWT: %w", err)
		}
		if err := json.Unmarshal(decoded, into); err != nil {
			return nil, nil, fmt.Errorf("decode JWT: %w", err)
		}
	}
	return header, claims, nil
}
