package manage

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// ClientID is the path parameter of a client.
type ClientID struct {
	ID string `path:"client_id" maxLength:"512"`
}

type clientOutput struct {
	ETag string `header:"ETag"`
	Body api.Client
}

func (a *API) registerClients() {
	register(a, api.ClientsRead, operation{id: "list-clients", method: http.MethodGet, path: "/clients", summary: "List clients"}, a.listClients)
	register(a, api.ClientsRead, operation{id: "get-client", method: http.MethodGet, path: "/clients/{client_id}", summary: "Get a client"}, a.getClient)
	register(a, api.ClientsWrite, operation{id: "create-client", method: http.MethodPost, path: "/clients", summary: "Create a client", status: http.StatusCreated}, a.createClient)
	register(a, api.ClientsWrite, operation{id: "update-client", method: http.MethodPut, path: "/clients/{client_id}", summary: "Replace the members of a client"}, a.updateClient)
	register(a, api.ClientsWrite, operation{id: "delete-client", method: http.MethodDelete, path: "/clients/{client_id}", summary: "Delete a client and end everything that was issued to it"}, a.deleteClient)
	register(a, api.ClientsWrite, operation{id: "add-client-secret", method: http.MethodPost, path: "/clients/{client_id}/secrets", summary: "Add a second client secret; both are valid", status: http.StatusCreated}, a.addSecret)
	register(a, api.ClientsWrite, operation{id: "remove-old-client-secret", method: http.MethodDelete, path: "/clients/{client_id}/secrets/old", summary: "Remove the older of two client secrets"}, a.removeOldSecret)
	register(a, api.SessionsWrite, operation{id: "end-client", method: http.MethodPost, path: "/clients/{client_id}/end", summary: "End every code and token that was issued to a client"}, a.endClient)
}

type listClientsInput struct {
	List
	Query    string `query:"q" maxLength:"255" doc:"Part of the client_id or the name, without case"`
	Declared string `query:"declared" enum:"true,false" doc:"Only those that a file declares, or only others"`
}

type listClientsOutput struct{ Body api.ClientPage }

func (a *API) listClients(ctx context.Context, _ *principal, in *listClientsInput) (*listClientsOutput, error) {
	query := strings.ToLower(in.Query)
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]record.Client, error) {
			return a.config.Store.Clients(ctx, after, limit)
		},
		func(c *record.Client) string { return c.ID },
		func(c *record.Client) bool {
			return (strings.Contains(strings.ToLower(c.ID), query) || strings.Contains(strings.ToLower(c.ClientName), query)) &&
				(in.Declared == "" || (in.Declared == "true") == (c.DeclaredBy != ""))
		})
	if err != nil {
		return nil, err
	}
	page := api.ClientPage{Clients: make([]api.Client, len(found)), Page: api.Page{Next: next}}
	for i := range found {
		page.Clients[i] = a.clientBody(&found[i])
	}
	return &listClientsOutput{page}, nil
}

func (a *API) getClient(ctx context.Context, _ *principal, in *ClientID) (*clientOutput, error) {
	c, err := a.client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.clientOutput(c)
}

func (a *API) clientOutput(c *record.Client) (*clientOutput, error) {
	tag, err := a.clientTag(c)
	return &clientOutput{tag, a.clientBody(c)}, err
}

// clientTag returns the ETag of a client. The first use of a registered client does not change it.
func (a *API) clientTag(c *record.Client) (string, error) {
	stored := *c
	if c.Registration != nil {
		registration := *c.Registration
		registration.UnusedUntil = time.Time{}
		stored.Registration = &registration
	}
	return a.tag("client", stored, c.Secrets, c.RetiredAt, c.DeclaredBy)
}

func (a *API) clientBody(c *record.Client) api.Client {
	body := api.Client{ID: c.ID, ClientMembers: api.ClientMembers{ClientMetadata: c.ClientMetadata, ClientSettings: c.ClientSettings},
		Secrets: len(c.Secrets), DeclaredBy: a.fileOf(c.DeclaredBy), RetiredAt: optionalTime(c.RetiredAt)}
	if c.Registration != nil {
		body.Registered = &c.Registration.CreatedAt
	}
	return body
}

// optionalTime returns nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// powerOf returns the permissions that control over a client gives: those of its role, and those that
// it can ask users for.
func (a *API) powerOf(c *record.Client) []api.Permission {
	power := api.Role(c.Role).Permissions()
	if !oauth.ContainsResource(c.Resources, Identifier(a.config.Issuer)) {
		return power
	}
	for name := range strings.FieldsSeq(c.Scope) {
		if name == api.ScopeAll { // users may have any role
			return api.Permissions()
		}
		if p := api.Permission(name); p.Description() != "" {
			power = append(power, p)
		}
	}
	return power
}

// mayControl returns an error if control over a client would give the principal more permissions.
func (a *API) mayControl(p *principal, c *record.Client) error {
	return p.mustHave(fmt.Sprintf("the client %q", c.ID), a.powerOf(c))
}

type createClientInput struct {
	Change
	Body api.NewClient
}

type createClientOutput struct {
	ETag string `header:"ETag"`
	Body api.CreatedClient
}

func (a *API) createClient(ctx context.Context, p *principal, in *createClientInput) (*createClientOutput, error) {
	c := &record.Client{ID: cmp.Or(in.Body.ID, storage.NewID()), ClientMetadata: in.Body.ClientMetadata, ClientSettings: in.Body.ClientSettings}
	secret := ""
	if needsSecret(c) {
		secret = newClientSecret()
		c.Secrets = []string{secret}
	}
	if err := a.checkClient(p, c); err != nil {
		return nil, err
	}
	var err error
	if in.DryRun {
		if _, err = a.config.Store.Client(ctx, c.ID); err == nil {
			err = storage.ErrExists
		} else if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		secret = ""
	} else {
		err = a.config.Store.CreateClient(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	out, err := a.clientOutput(c)
	if err != nil {
		return nil, err
	}
	return &createClientOutput{out.ETag, api.CreatedClient{Client: out.Body, Secret: secret}}, nil
}

// needsSecret reports whether a client authenticates with a secret.
func needsSecret(c *record.Client) bool {
	return slices.Contains([]string{"", oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost, oauth.AuthMethodClientSecretJWT}, c.TokenEndpointAuthMethod)
}

// checkClient returns an error if a client must not be stored, or not by the principal.
func (a *API) checkClient(p *principal, c *record.Client) error {
	problems := authserver.CheckClient(*c)
	if profile := a.config.Configuration.Profile; profile != "" {
		problems = append(problems, authserver.CheckClientProfile(*c, profile)...)
	}
	if c.ID != strings.TrimSpace(c.ID) || strings.ContainsFunc(c.ID, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		problems = append(problems, authserver.ClientProblem{Member: "client_id", Message: "must consist of printable ASCII characters (RFC 6749, appendix A.1)"})
	}
	if c.ID == api.CommandLineClientID {
		problems = append(problems, authserver.ClientProblem{Member: "client_id", Message: "belongs to the command line of the server"})
	}
	if oauth.IsClientIDURL(c.ID) {
		problems = append(problems, authserver.ClientProblem{Member: "client_id", Message: "a URL is the client_id of a client with a metadata document"})
	}
	if len(problems) > 0 {
		details := make([]error, len(problems))
		for i, problem := range problems {
			details[i] = &huma.ErrorDetail{Location: "body." + problem.Member, Message: problem.Message}
		}
		return huma.Error422UnprocessableEntity("the client is not valid", details...)
	}
	return a.mayControl(p, c)
}

type updateClientInput struct {
	ClientID
	Existing
	Body api.ClientMembers
}

func (a *API) updateClient(ctx context.Context, p *principal, in *updateClientInput) (*clientOutput, error) {
	return a.changeClient(ctx, p, in.ID, in.Existing, func(c *record.Client) error {
		c.ClientMetadata, c.ClientSettings = in.Body.ClientMetadata, in.Body.ClientSettings
		return a.checkClient(p, c)
	})
}

// changeClient changes a client that no file declares and that the principal may control.
func (a *API) changeClient(ctx context.Context, p *principal, id string, in Existing, update func(*record.Client) error) (*clientOutput, error) {
	var changed record.Client
	err := a.config.Store.UpdateClient(ctx, id, func(c *record.Client) error {
		if err := a.mayChangeClient(p, c, in.IfMatch); err != nil {
			return err
		}
		if err := update(c); err != nil {
			return err
		}
		if changed = *c; in.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return a.clientOutput(&changed)
}

func (a *API) mayChangeClient(p *principal, c *record.Client, ifMatch string) error {
	tag, err := a.clientTag(c)
	if err != nil {
		return err
	}
	if err := mustMatch(ifMatch, tag); err != nil {
		return err
	}
	if err := mustNotBeDeclared(fmt.Sprintf("the client %q", c.ID), a.fileOf(c.DeclaredBy)); err != nil {
		return err
	}
	return a.mayControl(p, c)
}

type deleteClientInput struct {
	ClientID
	Existing
}

func (a *API) deleteClient(ctx context.Context, p *principal, in *deleteClientInput) (*struct{}, error) {
	err := a.config.Store.DeleteClientIf(ctx, in.ID, func(c *record.Client) error {
		if err := a.mayChangeClient(p, c, in.IfMatch); err != nil {
			return err
		}
		if in.DryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return nil, err
}

type secretInput struct {
	ClientID
	Existing
}

type secretOutput struct {
	ETag string `header:"ETag"`
	Body api.ClientSecret
}

// addSecret adds a secret. The client changes to it while the old one is still valid, and then the old
// one is removed, so that no request fails.
func (a *API) addSecret(ctx context.Context, p *principal, in *secretInput) (*secretOutput, error) {
	secret := newClientSecret()
	out, err := a.changeClient(ctx, p, in.ID, in.Existing, func(c *record.Client) error {
		switch {
		case !needsSecret(c):
			return huma.Error409Conflict("the client authenticates with " + c.TokenEndpointAuthMethod + ", not with a secret")
		case len(c.Secrets) >= 2:
			return huma.Error409Conflict("the client has two secrets already: remove the older one first")
		}
		c.Secrets = append(slices.Clone(c.Secrets), secret)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		secret = ""
	}
	return &secretOutput{out.ETag, api.ClientSecret{Secret: secret}}, nil
}

func (a *API) removeOldSecret(ctx context.Context, p *principal, in *secretInput) (*clientOutput, error) {
	return a.changeClient(ctx, p, in.ID, in.Existing, func(c *record.Client) error {
		if len(c.Secrets) < 2 {
			return huma.Error409Conflict("the client has one secret only: add another one first")
		}
		c.Secrets = slices.Clone(c.Secrets[1:])
		return nil
	})
}

// endClient ends what was issued to a client, also if a file declares it. The record stays as it is.
func (a *API) endClient(ctx context.Context, _ *principal, in *secretInput) (*clientOutput, error) {
	var ended record.Client
	err := a.config.Store.UpdateClient(ctx, in.ID, func(c *record.Client) error {
		tag, err := a.clientTag(c)
		if err != nil {
			return err
		}
		if err := mustMatch(in.IfMatch, tag); err != nil {
			return err
		}
		c.End(time.Now())
		if ended = *c; in.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return a.clientOutput(&ended)
}

func newClientSecret() string { return rand.Text() + rand.Text() }
