package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Bounds on what a client registers, so that no page or list is buried by it.
const (
	maxClientName    = 100 // characters
	maxClientEntries = 100 // of an array
	maxLocalized     = 50
)

// registrationRequest is what a client says of itself. Members that are not known are
// ignored (RFC 7591, section 2), and Valetkey's own settings are not among the known.
type registrationRequest struct {
	oauth.ClientMetadata
	// localized are the human-readable members with a language tag, such as
	// "client_name#ja" (RFC 7591, section 2.2).
	localized         map[string]string
	SoftwareStatement string `json:"software_statement"`
	stated            bool   // a software statement of a trusted issuer is part of it
	// In a replacement (RFC 7592, section 2.2).
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// readRegistration reads the body, and what a software statement says in its place.
func (c *call) readRegistration() (*registrationRequest, error) {
	body, err := c.readJSON(&ruleRegistrationBody)
	if err != nil {
		return nil, err
	}
	request := &registrationRequest{}
	problem, err := request.read(body)
	if err != nil {
		return nil, c.because(&ruleRegistrationBody, err)
	}
	if problem != nil {
		return nil, c.refuseMetadata(*problem)
	}
	if err := c.applySoftwareStatement(request); err != nil {
		return nil, err
	}
	if problem := request.bounded(); problem != nil {
		return nil, c.refuseMetadata(*problem)
	}
	return request, nil
}

// readJSON reads the body of a request to an endpoint that takes JSON; r is the rule
// that it must be that.
func (c *call) readJSON(r *rule) ([]byte, error) {
	if !isMediaType(c.r.Header.Get("Content-Type"), "application/json") {
		return nil, c.refuse(r, "Content-Type: "+c.r.Header.Get("Content-Type"))
	}
	body, err := readBody(http.MaxBytesReader(c.w, c.r.Body, maxFormBytes), min(c.r.ContentLength, maxFormBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge || c.r.ContentLength > maxFormBytes {
		return nil, c.tooLarge()
	}
	if err != nil {
		return nil, c.because(r, err)
	}
	return body, nil
}

// read takes the members of a document, in the place of what was read before. A null
// counts as left out (RFC 7592, section 2.2). The error is that of the whole document; the
// problem that of a member.
func (request *registrationRequest) read(document []byte) (*ClientProblem, error) {
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(document, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("it is no object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		value := members[name]
		if string(value) == "null" {
			continue
		}
		if base, tag, tagged := strings.Cut(name, "#"); tagged && slices.Contains(localizedMembers(), base) {
			if problem := request.localize(base, tag, value); problem != nil {
				return problem, nil
			}
			continue
		}
		// One at a time, so that the member which is not of its type can be named.
		one, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err != nil {
			return nil, fmt.Errorf("read member: %w", err)
		}
		if err := jose.ParseJSON(one, request); err != nil {
			return &ClientProblem{clip(name), "it is not of its type"}, nil
		}
	}
	return nil, nil
}

// localizedMembers are those that people read (OpenID Connect Registration, section 2.1).
func localizedMembers() []string {
	return []string{"client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"}
}

// languageTag is the form of the tags of BCP 47, without their registry.
var languageTag = regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,7}$`)

// localize keeps a member in another language. What has no text or no language is ignored,
// as what is not known is.
func (request *registrationRequest) localize(base, tag string, value json.RawMessage) *ClientProblem {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" || !languageTag.MatchString(tag) {
		return nil
	}
	switch {
	case base == "client_name" && len([]rune(text)) > maxClientName:
		return &ClientProblem{base, fmt.Sprintf("a name has at most %d characters", maxClientName)}
	case base != "client_name" && !isWebAddress(text):
		return &ClientProblem{base, "it is not an https URL, in one of the languages"}
	case len(request.localized) == maxLocalized:
		return &ClientProblem{base, fmt.Sprintf("there are more than %d members with a language", maxLocalized)}
	case request.localized == nil:
		request.localized = map[string]string{}
	}
	request.localized[base+"#"+tag] = text
	return nil
}

func (request *registrationRequest) bounded() *ClientProblem {
	if len([]rune(request.ClientName)) > maxClientName {
		return &ClientProblem{"client_name", fmt.Sprintf("a name has at most %d characters", maxClientName)}
	}
	for _, member := range [...]struct {
		name string
		n    int
	}{
		{"redirect_uris", len(request.RedirectURIs)}, {"post_logout_redirect_uris", len(request.PostLogoutRedirectURIs)},
		{"request_uris", len(request.RequestURIs)}, {"contacts", len(request.Contacts)}, {"grant_types", len(request.GrantTypes)},
		{"response_types", len(request.ResponseTypes)}, {"default_acr_values", len(request.DefaultACRValues)},
	} {
		if member.n > maxClientEntries {
			return &ClientProblem{member.name, fmt.Sprintf("there are more than %d", maxClientEntries)}
		}
	}
	return nil
}

// unsupported lists what the client asks for and the server's own metadata does not offer.
func unsupported(m *oauth.ClientMetadata, server *oauth.ServerMetadata) (problems []ClientProblem) {
	for _, member := range [...]struct {
		name, value string
		offered     []string
	}{
		{"token_endpoint_auth_method", m.TokenEndpointAuthMethod, server.TokenEndpointAuthMethodsSupported},
		{"token_endpoint_auth_signing_alg", m.TokenEndpointAuthSigningAlg, server.TokenEndpointAuthSigningAlgValuesSupported},
		{"subject_type", m.SubjectType, server.SubjectTypesSupported},
		{"id_token_signed_response_alg", m.IDTokenSignedResponseAlg, server.IDTokenSigningAlgValuesSupported},
		{"id_token_encrypted_response_alg", m.IDTokenEncryptedResponseAlg, server.IDTokenEncryptionAlgValuesSupported},
		{"id_token_encrypted_response_enc", m.IDTokenEncryptedResponseEnc, server.IDTokenEncryptionEncValuesSupported},
		{"userinfo_signed_response_alg", m.UserinfoSignedResponseAlg, server.UserinfoSigningAlgValuesSupported},
		{"userinfo_encrypted_response_alg", m.UserinfoEncryptedResponseAlg, server.UserinfoEncryptionAlgValuesSupported},
		{"userinfo_encrypted_response_enc", m.UserinfoEncryptedResponseEnc, server.UserinfoEncryptionEncValuesSupported},
		{"request_object_signing_alg", m.RequestObjectSigningAlg, server.RequestObjectSigningAlgValuesSupported},
		{"request_object_encryption_alg", m.RequestObjectEncryptionAlg, server.RequestObjectEncryptionAlgValuesSupported},
		{"request_object_encryption_enc", m.RequestObjectEncryptionEnc, server.RequestObjectEncryptionEncValuesSupported},
	} {
		if member.value != "" && !slices.Contains(member.offered, member.value) {
			problems = append(problems, ClientProblem{member.name, fmt.Sprintf("%q is not supported by this server", member.value)})
		}
	}
	return problems
}
