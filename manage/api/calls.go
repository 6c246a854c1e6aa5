package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// send sends a request that changes something. It returns a body of type T, and the ETag.
func send[T any](ctx context.Context, c *Connection, r request) (*T, string, error) {
	out := new(T)
	r.out = out
	etag, err := c.do(ctx, r)
	if err != nil {
		return nil, "", err
	}
	return out, etag, nil
}

// path joins segments of a path, percent-encoded.
func path(segments ...string) string {
	joined := ""
	for _, s := range segments {
		joined += "/" + url.PathEscape(s)
	}
	return joined
}

// Whoami returns what the caller is and may do.
func (c *Connection) Whoami(ctx context.Context) (*Whoami, error) {
	who, _, err := get[Whoami](ctx, c, "/whoami", nil)
	return who, err
}

// Clients returns a page of clients.
func (c *Connection) Clients(ctx context.Context, list List) (*ClientPage, error) {
	page, _, err := get[ClientPage](ctx, c, "/clients", list.query())
	return page, err
}

// AllClients iterates over all clients.
func (c *Connection) AllClients(ctx context.Context, list List) iter.Seq2[Client, error] {
	return All(ctx, list, c.Clients, func(p *ClientPage) ([]Client, string) { return p.Clients, p.Next })
}

// Client returns a client.
func (c *Connection) Client(ctx context.Context, id string) (*Client, error) {
	client, etag, err := get[Client](ctx, c, path("clients", id), nil)
	if err == nil {
		client.ETag = etag
	}
	return client, err
}

// CreateClient creates a client.
func (c *Connection) CreateClient(ctx context.Context, client *NewClient, change Change) (*CreatedClient, error) {
	created, etag, err := send[CreatedClient](ctx, c, request{method: http.MethodPost, path: "/clients", change: change, in: client})
	if err == nil {
		created.ETag = etag
	}
	return created, err
}

// UpdateClient replaces all members of a client. etag is that of the record that was read; if it has
// changed since, the error is a *Problem with the status 412.
func (c *Connection) UpdateClient(ctx context.Context, id, etag string, members *ClientMembers, change Change) (*Client, error) {
	return c.clientAfter(ctx, request{method: http.MethodPut, path: path("clients", id), ifMatch: etag, change: change, in: members})
}

// DeleteClient deletes a client, and ends everything that was issued to it.
func (c *Connection) DeleteClient(ctx context.Context, id, etag string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/clients/" + url.PathEscape(id), ifMatch: etag, change: change})
	return err
}

// Users returns a page of users.
func (c *Connection) Users(ctx context.Context, list List) (*UserPage, error) {
	page, _, err := get[UserPage](ctx, c, "/users", list.query())
	return page, err
}

// AllUsers iterates over all users.
func (c *Connection) AllUsers(ctx context.Context, list List) iter.Seq2[User, error] {
	return All(ctx, list, c.Users, func(p *UserPage) ([]User, string) { return p.Users, p.Next })
}

// User returns a user, by sub.
func (c *Connection) User(ctx context.Context, sub string) (*User, error) {
	user, etag, err := get[User](ctx, c, path("users", sub), nil)
	if err == nil {
		user.ETag = etag
	}
	return user, err
}

// CreateUser creates a user without a means to sign in.
func (c *Connection) CreateUser(ctx context.Context, user *UserMembers, change Change) (*User, error) {
	return c.userAfter(ctx, request{method: http.MethodPost, path: "/users", change: change, in: user})
}

func (c *Connection) userAfter(ctx context.Context, r request) (*User, error) {
	user, etag, err := send[User](ctx, c, r)
	if err == nil {
		user.ETag = etag
	}
	return user, err
}

// UpdateUser replaces the members of a user.
func (c *Connection) UpdateUser(ctx context.Context, sub, etag string, user *UserMembers, change Change) (*User, error) {
	return c.userAfter(ctx, request{method: http.MethodPut, path: path("users", sub), ifMatch: etag, change: change, in: user})
}

// DeleteUser deletes a user and everything that belongs to them.
func (c *Connection) DeleteUser(ctx context.Context, sub, etag string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("users", sub), ifMatch: etag, change: change})
	return err
}

// SetUserRole sets what a user may manage.
func (c *Connection) SetUserRole(ctx context.Context, sub, etag string, role Role, change Change) (*User, error) {
	return c.userAfter(ctx, request{method: http.MethodPut, path: path("users", sub, "role"), ifMatch: etag, change: change, in: UserRole{role}})
}

// RemoveUserMethod removes a means to sign in that a user has lost.
func (c *Connection) RemoveUserMethod(ctx context.Context, sub, etag, id string, change Change) (*User, error) {
	return c.userAfter(ctx, request{method: http.MethodDelete, path: path("users", sub, "methods", id), ifMatch: etag, change: change})
}

// CreateRecovery creates a link with which a locked-out user gets back in.
func (c *Connection) CreateRecovery(ctx context.Context, sub string, r LinkRequest, change Change) (*Link, error) {
	link, _, err := send[Link](ctx, c, request{method: http.MethodPost, path: path("users", sub, "recovery"), change: change, in: r})
	return link, err
}

// CreateInvitation creates an invitation to sign up.
func (c *Connection) CreateInvitation(ctx context.Context, r LinkRequest, change Change) (*Link, error) {
	link, _, err := send[Link](ctx, c, request{method: http.MethodPost, path: "/invitations", change: change, in: r})
	return link, err
}

// UserSessions returns where a user is signed in.
func (c *Connection) UserSessions(ctx context.Context, sub string) (*SessionList, error) {
	list, _, err := get[SessionList](ctx, c, path("users", sub, "sessions"), nil)
	return list, err
}

// EndUserSession ends a session and what was issued in it.
func (c *Connection) EndUserSession(ctx context.Context, sub, id string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("users", sub, "sessions", id), change: change})
	return err
}

// EndUser ends every session, code and token of a user.
func (c *Connection) EndUser(ctx context.Context, sub string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: path("users", sub, "end"), change: change})
	return err
}

// UserGrants returns a page of what a user has allowed clients.
func (c *Connection) UserGrants(ctx context.Context, sub string, list List) (*GrantPage, error) {
	page, _, err := get[GrantPage](ctx, c, path("users", sub, "grants"), list.query())
	return page, err
}

// ClientGrants returns a page of what users have allowed a client.
func (c *Connection) ClientGrants(ctx context.Context, clientID string, list List) (*GrantPage, error) {
	page, _, err := get[GrantPage](ctx, c, path("clients", clientID, "grants"), list.query())
	return page, err
}

// DeleteGrant revokes what a user has allowed a client.
func (c *Connection) DeleteGrant(ctx context.Context, sub, clientID string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("users", sub, "grants", clientID), change: change})
	return err
}

// DeleteUserGrants revokes everything that a user has allowed clients.
func (c *Connection) DeleteUserGrants(ctx context.Context, sub string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("users", sub, "grants"), change: change})
	return err
}

// UserTokens returns the tokens of a user, without their secrets.
func (c *Connection) UserTokens(ctx context.Context, sub string) (*TokenList, error) {
	list, _, err := get[TokenList](ctx, c, path("users", sub, "tokens"), nil)
	return list, err
}

// ClientTokens returns the stored tokens that a client got for itself, without their secrets.
func (c *Connection) ClientTokens(ctx context.Context, clientID string) (*TokenList, error) {
	list, _, err := get[TokenList](ctx, c, path("clients", clientID, "tokens"), nil)
	return list, err
}

// Token returns a token by its reference.
func (c *Connection) Token(ctx context.Context, reference string) (*Token, error) {
	token, _, err := get[Token](ctx, c, path("tokens", reference), nil)
	return token, err
}

// EndToken ends a token and everything that was issued with it.
func (c *Connection) EndToken(ctx context.Context, reference string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("tokens", reference), change: change})
	return err
}

// AddClientSecret adds a second secret to a client.
func (c *Connection) AddClientSecret(ctx context.Context, id, etag string, change Change) (*ClientSecret, error) {
	secret, etag, err := send[ClientSecret](ctx, c, request{method: http.MethodPost, path: path("clients", id, "secrets"), ifMatch: etag, change: change})
	if err == nil {
		secret.ETag = etag
	}
	return secret, err
}

// RemoveOldClientSecret removes the older of a client's two secrets.
func (c *Connection) RemoveOldClientSecret(ctx context.Context, id, etag string, change Change) (*Client, error) {
	return c.clientAfter(ctx, request{method: http.MethodDelete, path: path("clients", id, "secrets", "old"), ifMatch: etag, change: change})
}

// EndClient ends every code and token that was issued to a client.
func (c *Connection) EndClient(ctx context.Context, id, etag string, change Change) (*Client, error) {
	return c.clientAfter(ctx, request{method: http.MethodPost, path: path("clients", id, "end"), ifMatch: etag, change: change})
}

func (c *Connection) clientAfter(ctx context.Context, r request) (*Client, error) {
	client, etag, err := send[Client](ctx, c, r)
	if err == nil {
		client.ETag = etag
	}
	return client, err
}

// Scopes returns a page of scopes.
func (c *Connection) Scopes(ctx context.Context, list List) (*ScopePage, error) {
	page, _, err := get[ScopePage](ctx, c, "/scopes", list.query())
	return page, err
}

// Scope returns a scope.
func (c *Connection) Scope(ctx context.Context, name string) (*Scope, error) {
	scope, etag, err := get[Scope](ctx, c, path("scopes", name), nil)
	if err == nil {
		scope.ETag = etag
	}
	return scope, err
}

// CreateScope creates a scope.
func (c *Connection) CreateScope(ctx context.Context, name string, scope *ScopeMembers, change Change) (*Scope, error) {
	in := struct {
		Name string `json:"name"`
		*ScopeMembers
	}{name, scope}
	return c.scopeAfter(ctx, request{method: http.MethodPost, path: "/scopes", change: change, in: in})
}

// UpdateScope replaces the members of a scope.
func (c *Connection) UpdateScope(ctx context.Context, name, etag string, scope *ScopeMembers, change Change) (*Scope, error) {
	return c.scopeAfter(ctx, request{method: http.MethodPut, path: path("scopes", name), ifMatch: etag, change: change, in: scope})
}

func (c *Connection) scopeAfter(ctx context.Context, r request) (*Scope, error) {
	scope, etag, err := send[Scope](ctx, c, r)
	if err == nil {
		scope.ETag = etag
	}
	return scope, err
}

// DeleteScope deletes a scope.
func (c *Connection) DeleteScope(ctx context.Context, name, etag string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("scopes", name), ifMatch: etag, change: change})
	return err
}

// Resources returns a page of resources.
func (c *Connection) Resources(ctx context.Context, list List) (*ResourcePage, error) {
	page, _, err := get[ResourcePage](ctx, c, "/resources", list.query())
	return page, err
}

// Resource returns a resource.
func (c *Connection) Resource(ctx context.Context, identifier string) (*Resource, error) {
	resource, etag, err := get[Resource](ctx, c, path("resources", identifier), nil)
	if err == nil {
		resource.ETag = etag
	}
	return resource, err
}

// CreateResource creates a resource.
func (c *Connection) CreateResource(ctx context.Context, identifier string, resource *ResourceMembers, change Change) (*Resource, error) {
	in := struct {
		Identifier string `json:"identifier"`
		*ResourceMembers
	}{identifier, resource}
	return c.resourceAfter(ctx, request{method: http.MethodPost, path: "/resources", change: change, in: in})
}

// UpdateResource replaces the members of a resource.
func (c *Connection) UpdateResource(ctx context.Context, identifier, etag string, resource *ResourceMembers, change Change) (*Resource, error) {
	return c.resourceAfter(ctx, request{method: http.MethodPut, path: path("resources", identifier), ifMatch: etag, change: change, in: resource})
}

func (c *Connection) resourceAfter(ctx context.Context, r request) (*Resource, error) {
	resource, etag, err := send[Resource](ctx, c, r)
	if err == nil {
		resource.ETag = etag
	}
	return resource, err
}

// DeleteResource deletes a resource.
func (c *Connection) DeleteResource(ctx context.Context, identifier, etag string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("resources", identifier), ifMatch: etag, change: change})
	return err
}

// TrustedIssuers, Rules and Hooks return settings that are only in the configuration file.
func (c *Connection) TrustedIssuers(ctx context.Context) (*Section, error) {
	section, _, err := get[Section](ctx, c, "/trusted-issuers", nil)
	return section, err
}

// Rules is described at TrustedIssuers.
func (c *Connection) Rules(ctx context.Context) (*Section, error) {
	section, _, err := get[Section](ctx, c, "/rules", nil)
	return section, err
}

// Hooks is described at TrustedIssuers.
func (c *Connection) Hooks(ctx context.Context) (*Section, error) {
	section, _, err := get[Section](ctx, c, "/hooks", nil)
	return section, err
}

// Keys returns the keys of the server.
func (c *Connection) Keys(ctx context.Context) (*KeyList, error) {
	list, _, err := get[KeyList](ctx, c, "/keys", nil)
	return list, err
}

// RotateKeys replaces keys ahead of schedule, and returns all keys.
func (c *Connection) RotateKeys(ctx context.Context, rotation Rotation, change Change) (*KeyList, error) {
	list, _, err := send[KeyList](ctx, c, request{method: http.MethodPost, path: "/keys", change: change, in: rotation})
	return list, err
}

// RetireKey removes a key that was replaced, at once.
func (c *Connection) RetireKey(ctx context.Context, kid string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("keys", kid), change: change})
	return err
}

// InitialAccessTokens returns the valid initial access tokens.
func (c *Connection) InitialAccessTokens(ctx context.Context) (*InitialAccessTokenList, error) {
	list, _, err := get[InitialAccessTokenList](ctx, c, "/registrations", nil)
	return list, err
}

// CreateInitialAccessToken creates an initial access token.
func (c *Connection) CreateInitialAccessToken(ctx context.Context, token NewInitialAccessToken, change Change) (*CreatedInitialAccessToken, error) {
	created, _, err := send[CreatedInitialAccessToken](ctx, c, request{method: http.MethodPost, path: "/registrations", change: change, in: token})
	return created, err
}

// RevokeInitialAccessToken revokes an initial access token.
func (c *Connection) RevokeInitialAccessToken(ctx context.Context, id string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("registrations", id), change: change})
	return err
}

// Explanations returns a page of requests with their checks, the newest first. The filters are client_id,
// sub, outcome, endpoint, error, q, since and until.
func (c *Connection) Explanations(ctx context.Context, list List) (*ExplanationPage, error) {
	page, _, err := get[ExplanationPage](ctx, c, "/explanations", list.query())
	return page, err
}

// Explanation returns the checks of a request by its reference.
func (c *Connection) Explanation(ctx context.Context, reference string) (*Explanation, error) {
	explanation, _, err := get[Explanation](ctx, c, path("explanations", reference), nil)
	return explanation, err
}

// Recordings returns the recordings of accepted requests that have not ended.
func (c *Connection) Recordings(ctx context.Context) (*RecordingList, error) {
	list, _, err := get[RecordingList](ctx, c, "/recordings", nil)
	return list, err
}

// CreateRecording begins to record accepted requests.
func (c *Connection) CreateRecording(ctx context.Context, r NewRecording, change Change) (*Recording, error) {
	recording, _, err := send[Recording](ctx, c, request{method: http.MethodPost, path: "/recordings", change: change, in: r})
	return recording, err
}

// EndRecording ends a recording. What it has kept stays.
func (c *Connection) EndRecording(ctx context.Context, id string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("recordings", id), change: change})
	return err
}

// Messages returns a page of messages that wait to be sent, or with the filter failed, that were given
// up. outbox is clients, users or events.
func (c *Connection) Messages(ctx context.Context, outbox string, list List) (*MessagePage, error) {
	page, _, err := get[MessagePage](ctx, c, path("outbox", outbox), list.query())
	return page, err
}

// RetryMessage sends a message now, also one that was given up.
func (c *Connection) RetryMessage(ctx context.Context, outbox, id string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: path("outbox", outbox, id, "retry"), change: change})
	return err
}

// DropMessage drops a message.
func (c *Connection) DropMessage(ctx context.Context, outbox, id string, change Change) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: path("outbox", outbox, id), change: change})
	return err
}

// Preview returns what a client would get for a user.
func (c *Connection) Preview(ctx context.Context, r PreviewRequest) (*Preview, error) {
	query := url.Values{"client_id": {r.ClientID}}
	if r.Subject != "" {
		query.Set("sub", r.Subject)
	}
	if r.Scope != "" {
		query.Set("scope", r.Scope)
	}
	for _, resource := range r.Resources {
		query.Add("resource", resource)
	}
	preview, _, err := get[Preview](ctx, c, "/preview", query)
	return preview, err
}
