package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// issuerRelation is the link that a host publishes for its people (OpenID Connect
// Discovery, section 2).
const issuerRelation = "http://openid.net/specs/connect/1.0/issuer"

// maxIdentifier bounds what a person may type.
const maxIdentifier = 2048

// FindIssuer asks the host of an identifier that a person typed, such as
// alice@example.com or https://example.com/alice, which OpenID Provider is theirs
// (OpenID Connect Discovery, section 2; RFC 7033). Discover then reads that provider's
// metadata and holds it to the issuer.
//
// The request goes to a host that the person chose. A server whose network has hosts that
// strangers must not reach passes a client that does not reach them either; nil means
// http.DefaultTransport.
func FindIssuer(ctx context.Context, identifier string, h *http.Client) (string, error) {
	resource, host, err := normalizeIdentifier(identifier)
	if err != nil {
		return "", fmt.Errorf("client: identifier: %w", err)
	}
	location := url.URL{
		Scheme: "https", Host: host, Path: "/.well-known/webfinger",
		RawQuery: url.Values{"resource": {resource}, "rel": {issuerRelation}}.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/jrd+json, application/json")
	got, err := send(guarded(h), req, maxAnswerBytes)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("%w: %s answered with status %d", ErrAnswer, host, got.status)
	}
	var document struct {
		Links []struct {
			Relation string `json:"rel"`
			Href     string `json:"href"`
		} `json:"links"`
	}
	if err := json.Unmarshal(got.body, &document); err != nil {
		return "", fmt.Errorf("%w: %s sent %s that is not the JSON of RFC 7033, section 4.4", ErrAnswer, host, describe(got))
	}
	for _, link := range document.Links {
		if link.Relation != issuerRelation {
			continue
		}
		if err := checkIssuer(link.Href); err != nil {
			return "", err
		}
		if !strings.HasPrefix(link.Href, "https:") {
			return "", fmt.Errorf("%w: %s names an issuer that is not https", ErrMetadata, host)
		}
		return link.Href, nil
	}
	return "", fmt.Errorf("%w: %s names no issuer", ErrAnswer, host)
}

// normalizeIdentifier returns the resource to ask about and the host to ask (OpenID
// Connect Discovery, section 2.1.2).
func normalizeIdentifier(identifier string) (resource, host string, err error) {
	identifier = strings.TrimSpace(identifier)
	if len(identifier) > maxIdentifier || strings.ContainsFunc(identifier, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }) {
		return "", "", errors.New("it is too long or has characters that none has")
	}
	switch {
	case identifier == "" || strings.ContainsAny(identifier[:1], "=@!"):
		return "", "", errors.New("it is neither an address nor a URL")
	case strings.HasPrefix(identifier, "acct:"), !strings.ContainsAny(identifier, "/?#") && strings.Contains(identifier, "@") && !strings.Contains(identifier, "://"):
		resource = "acct:" + strings.TrimPrefix(identifier, "acct:")
		host = resource[strings.LastIndex(resource, "@")+1:]
	case strings.Contains(identifier, "://"):
		resource = identifier
	default:
		resource = "https://" + identifier
	}
	if host == "" && !strings.HasPrefix(resource, "acct:") {
		u, err := url.Parse(resource)
		if err != nil || u.Scheme != "https" {
			return "", "", errors.New("a URL is https")
		}
		u.Fragment, u.RawFragment = "", ""
		resource, host = u.String(), u.Host
	}
	// The host must be no more than that.
	u, err := url.Parse("https://" + host + "/")
	if err != nil || host == "" || u.Host != host || u.User != nil || u.Hostname() == "" {
		return "", "", errors.New("it names no host")
	}
	return resource, host, nil
}
