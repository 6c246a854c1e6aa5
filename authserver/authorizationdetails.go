package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// AuthorizationDetailsType declares a type of authorization details (RFC 9396, section 2): what a
// client may request in more detail than a scope can say, such as one payment.
type AuthorizationDetailsType struct {
	Type string `json:"type"`
	// Schema is the JSON Schema (draft 2020-12) of the objects. It must forbid members that it does
	// not define. The member type need not be defined.
	Schema json.RawMessage `json:"schema"`
	// Consent is what the consent page shows for an object: a Go text template whose data is the
	// object, for example "Pay {{.amount}} to {{.creditor}}".
	Consent string `json:"consent"`
}

const (
	// maxAuthorizationDetails is the maximum number of objects in a request.
	maxAuthorizationDetails = 16
	// maxConsentText is the maximum length of the text that the consent page shows for an object.
	maxConsentText = 2000
)

// authorizationDetailsType is a type whose schema and template are compiled.
type authorizationDetailsType struct {
	schema  *jsonschema.Resolved
	consent *template.Template
}

// Check returns an error if the type is not valid.
func (t *AuthorizationDetailsType) Check() error {
	_, err := t.compile()
	return err
}

func (t *AuthorizationDetailsType) compile() (*authorizationDetailsType, error) {
	if t.Type == "" || strings.TrimSpace(t.Consent) == "" || len(t.Schema) == 0 {
		return nil, errors.New("type, schema or consent is missing")
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(t.Schema, &schema); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if !forbids(schema.AdditionalProperties) && !forbids(schema.UnevaluatedProperties) {
		return nil, errors.New("schema: it must have additionalProperties: false, because unknown members must be refused (RFC 9396, section 5)")
	}
	if schema.Properties == nil {
		schema.Properties = map[string]*jsonschema.Schema{}
	}
	if schema.Properties["type"] == nil {
		schema.Properties["type"] = &jsonschema.Schema{Type: "string"}
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	consent, err := template.New("consent").Option("missingkey=zero").Parse(t.Consent)
	if err != nil {
		return nil, fmt.Errorf("consent: %w", err)
	}
	return &authorizationDetailsType{schema: resolved, consent: consent}, nil
}

// forbids reports whether a schema is false, that is {"not": {}}.
func forbids(schema *jsonschema.Schema) bool {
	return schema != nil && schema.Not != nil && reflect.DeepEqual(schema, &jsonschema.Schema{Not: &jsonschema.Schema{}})
}

func newAuthorizationDetailsTypes(declared []AuthorizationDetailsType) (map[string]*authorizationDetailsType, error) {
	types := make(map[string]*authorizationDetailsType, len(declared))
	for i := range declared {
		name := declared[i].Type
		compiled, err := declared[i].compile()
		if err == nil && types[name] != nil {
			err = errors.New("it is declared twice")
		}
		if err != nil {
			return nil, fmt.Errorf("authorization details type %q: %w", name, err)
		}
		types[name] = compiled
	}
	return types, nil
}

var (
	ruleDetailsSyntax = rule{
		must:    "authorization_details is a JSON array of at most 16 objects, each with a type",
		section: "RFC 9396, section 2", code: oauth.InvalidAuthorizationDetails,
		says: "authorization_details must be a JSON array of at most 16 objects, each with a type",
		fix:  "correct authorization_details; an object must not have a member twice, or more than 16 levels",
	}
	ruleDetailsType = rule{
		must:    "the server knows each type, and the client may use it",
		section: "RFC 9396, section 5", code: oauth.InvalidAuthorizationDetails,
		says: "a type of authorization_details is unknown or not allowed for this client",
		fix:  "declare the type in authorization_details_types, and add it to the client's authorization_details_types",
	}
	ruleDetailsSchema = rule{
		must:    "each object matches the schema of its type",
		section: "RFC 9396, section 5", code: oauth.InvalidAuthorizationDetails,
		says: "authorization_details does not match the schema of its type",
		fix:  "send the members that the schema requires, and no others",
	}
	ruleDetailsGranted = rule{
		must:    "each object was granted, or is narrower than one that was granted",
		section: "RFC 9396, section 6", code: oauth.InvalidAuthorizationDetails,
		says: "authorization_details requests more than was granted",
		fix:  "request the objects of the authorization response, or have the user authorize the client again",
	}
	ruleDetailsClient = rule{
		must:    "the operator declared the client",
		section: "RFC 9396, section 3", code: oauth.InvalidAuthorizationDetails,
		says: "a client that registered itself cannot get authorization_details without a user",
		fix:  "declare the client in the configuration",
	}
)

// authorizationDetails returns the objects of the parameter authorization_details, if the client
// may request them; nil if it was not sent.
func (c *call) authorizationDetails(cl *client) ([]json.RawMessage, error) {
	requested, objects, err := c.requestedDetails()
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if err := c.checkDetail(cl, object); err != nil {
			return nil, err
		}
	}
	return requested, nil
}

// requestedDetails parses the parameter authorization_details, if it was sent. It returns each object as
// it was sent, without white space, and decoded.
func (c *call) requestedDetails() ([]json.RawMessage, []map[string]any, error) {
	text := c.params.get("authorization_details")
	if text == "" {
		return nil, nil, nil
	}
	return c.parseDetails(text)
}

func (c *call) parseDetails(text string) (details []json.RawMessage, objects []map[string]any, err error) {
	if err := jose.ParseJSON([]byte(text), &objects); err != nil {
		return nil, nil, c.because(&ruleDetailsSyntax, err)
	}
	if len(objects) == 0 || len(objects) > maxAuthorizationDetails {
		return nil, nil, c.refuse(&ruleDetailsSyntax, fmt.Sprintf("%d objects", len(objects)))
	}
	for i, object := range objects {
		if name, ok := object["type"].(string); !ok || name == "" {
			return nil, nil, c.refuse(&ruleDetailsSyntax, fmt.Sprintf("object %d has no type", i))
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		return nil, nil, c.because(&ruleDetailsSyntax, err)
	}
	if err := json.Unmarshal(compact.Bytes(), &details); err != nil {
		return nil, nil, c.because(&ruleDetailsSyntax, err)
	}
	return details, objects, c.must(true, &ruleDetailsSyntax)
}

// checkDetail checks the type of an object, and the object against the schema of the type.
func (c *call) checkDetail(cl *client, object map[string]any) error {
	name, _ := object["type"].(string)
	declared := c.s.detailsTypes[name]
	if declared == nil || !slices.Contains(cl.AuthorizationDetailsTypes, name) {
		return c.refuse(&ruleDetailsType, "type: "+name)
	}
	_ = c.must(true, &ruleDetailsType)
	if err := declared.schema.Validate(object); err != nil {
		return c.refuse(&ruleDetailsSchema, "type "+name+": "+err.Error())
	}
	return c.must(true, &ruleDetailsSchema)
}

// verifyAuthorizationDetails checks the details of an authorization request.
func (c *call) verifyAuthorizationDetails(request *authorizationRequest) (err error) {
	request.details, err = c.authorizationDetails(request.client)
	return err
}

// narrowDetails sets the details of an access token: those that the token request names, which must
// have been granted, or else all of the granted ones (RFC 9396, section 6). A client gets its own
// tokens for what it may request (section 3).
func (c *call) narrowDetails(ent *entitlement) error {
	granted := ent.authorization.Details
	ent.details = granted
	if !c.params.has("authorization_details") {
		return nil
	}
	if c.params.get("grant_type") == oauth.GrantTypeClientCredentials {
		details, err := c.authorizationDetails(c.client)
		if err != nil {
			return err
		}
		ent.details, ent.authorization.Details = details, details
		return c.must(c.client.Registration == nil, &ruleDetailsClient)
	}
	requested, _, err := c.requestedDetails()
	if err != nil {
		return err
	}
	var details []json.RawMessage
	for _, detail := range requested {
		switch {
		case slices.ContainsFunc(granted, func(g json.RawMessage) bool { return narrower(detail, g) }):
			details = append(details, detail)
		default:
			there := atLocations(detail, granted)
			if there == nil {
				return c.refuse(&ruleDetailsGranted, "")
			}
			details = append(details, there...)
		}
	}
	if len(details) > maxAuthorizationDetails {
		return c.refuse(&ruleDetailsSyntax, fmt.Sprintf("%d objects", len(details)))
	}
	ent.details = details
	if ent.subjectToken != nil {
		ent.authorization.Details = details // what is derived from the new token has no more
	}
	return c.must(true, &ruleDetailsGranted)
}

// detailLists are the members that all types share and whose values are lists (RFC 9396, section
// 2.2). A shorter list allows less.
func detailLists() []string { return []string{"locations", "actions", "datatypes", "privileges"} }

// narrower reports whether an object allows no more than another: it is equal, except that the
// lists of the common members may lack elements. A member that is missing may allow anything, so
// both must have the same members.
func narrower(requested, granted json.RawMessage) bool {
	a, errA := readDetail(requested)
	b, errB := readDetail(granted)
	if errA != nil || errB != nil || len(a) != len(b) {
		return false
	}
	for name, value := range a {
		other, ok := b[name]
		if !ok {
			return false
		}
		list, isList := value.([]any)
		otherList, otherIsList := other.([]any)
		if isList && otherIsList && slices.Contains(detailLists(), name) && len(list) > 0 {
			for _, element := range list {
				if !slices.ContainsFunc(otherList, func(e any) bool { return reflect.DeepEqual(e, element) }) {
					return false
				}
			}
			continue
		}
		if !reflect.DeepEqual(value, other) {
			return false
		}
	}
	return true
}

// atLocations returns what was granted of a type at some locations, if an object has nothing but a type
// and locations (RFC 9396, section 6.1). It returns nil if the object has other members, or if one of
// the locations was not granted.
func atLocations(requested json.RawMessage, granted []json.RawMessage) []json.RawMessage {
	object, err := readDetail(requested)
	wanted := detailLocations(requested)
	if err != nil || len(object) != 2 || len(wanted) == 0 {
		return nil
	}
	var found []json.RawMessage
	missing := slices.Clone(wanted)
	for _, detail := range granted {
		full, err := readDetail(detail)
		if err != nil || full["type"] != object["type"] {
			continue
		}
		locations := slices.DeleteFunc(detailLocations(detail), func(l string) bool { return !slices.Contains(wanted, l) })
		if len(locations) == 0 {
			continue
		}
		full["locations"] = locations
		narrowed, err := json.Marshal(full)
		if err != nil {
			return nil
		}
		found = append(found, narrowed)
		missing = slices.DeleteFunc(missing, func(l string) bool { return slices.Contains(locations, l) })
	}
	if len(missing) > 0 {
		return nil
	}
	return found
}

// readDetail decodes an object without changing its numbers.
func readDetail(detail json.RawMessage) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(detail))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("read authorization details: %w", err)
	}
	return object, nil
}

// detailsFor returns the details that concern an audience: those without locations, and those with
// a location in the audience (RFC 9396, sections 2.2 and 9.1).
func detailsFor(audience []string, details []json.RawMessage) []json.RawMessage {
	var relevant []json.RawMessage
	for _, detail := range details {
		locations := detailLocations(detail)
		if locations == nil || slices.ContainsFunc(locations, func(l string) bool { return oauth.ContainsResource(audience, l) }) {
			relevant = append(relevant, detail)
		}
	}
	return relevant
}

// detailLocations returns the locations of an object, nil if it has none.
func detailLocations(detail json.RawMessage) []string {
	var common struct {
		Locations []string `json:"locations"`
	}
	if err := json.Unmarshal(detail, &common); err != nil {
		return []string{} // of another type: they match no API
	}
	return common.Locations
}

// located reports whether one of the details names a resource as its location.
func located(details []json.RawMessage, identifier string) bool {
	return slices.ContainsFunc(details, func(detail json.RawMessage) bool {
		return oauth.ContainsResource(detailLocations(detail), identifier)
	})
}

// InteractionDetail is one of the authorization details on the consent page.
type InteractionDetail struct {
	Type string
	// Text says in plain words what the object allows. It contains text that the client sent.
	Text string
}

// describeDetails returns the details of a request in words.
func (c *call) describeDetails(request *authorizationRequest) ([]InteractionDetail, error) {
	var shown []InteractionDetail
	for _, detail := range request.details {
		described, err := c.s.describeDetail(detail)
		if err != nil {
			return nil, err
		}
		shown = append(shown, described)
	}
	return shown, nil
}

// describeDetail returns an object in words. The Type of the result is also set if there is an error.
func (s *Server) describeDetail(detail json.RawMessage) (InteractionDetail, error) {
	object, err := readDetail(detail)
	if err != nil {
		return InteractionDetail{}, err
	}
	name, _ := object["type"].(string)
	described := InteractionDetail{Type: name}
	declared := s.detailsTypes[name]
	if declared == nil {
		return described, fmt.Errorf("describe authorization details: the type %q is not declared", name)
	}
	var text strings.Builder
	if err := declared.consent.Execute(&text, object); err != nil {
		return described, fmt.Errorf("describe authorization details of type %q: %w", name, err)
	}
	if text.Len() > maxConsentText {
		return described, fmt.Errorf("describe authorization details of type %q: the text has %d bytes, more than %d; limit the lengths in its schema", name, text.Len(), maxConsentText)
	}
	described.Text = text.String()
	return described, nil
}

// GrantedDetail returns authorization details that a user has allowed (record.GrantedDetail) in words, as
// the consent page did. Text is "" if that is no longer possible: the type may have been removed or
// changed since.
func (s *Server) GrantedDetail(detail json.RawMessage) InteractionDetail {
	described, err := s.describeDetail(detail)
	if err != nil {
		described.Text = ""
	}
	return described
}

// visibleDetails returns the details of a token that an introspecting caller may see: all of them
// if the token is the caller's own, and otherwise those for its APIs (RFC 9396, section 9.2).
func (c *call) visibleDetails(catalogue *catalogue, caller *client, claims *accessTokenClaims) []json.RawMessage {
	if len(claims.Details) == 0 || claims.ClientID == caller.ID {
		return claims.Details
	}
	var own []string
	for _, identifier := range claims.Audience {
		if r := catalogue.resource(identifier); r != nil && r.MayIntrospect(caller.ID) {
			own = append(own, identifier)
		}
	}
	return detailsFor(own, claims.Details)
}
