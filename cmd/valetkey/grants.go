package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

type grantsCommand struct {
	List   grantsListCommand   `cmd:"" help:"List what users have allowed applications."`
	Revoke grantsRevokeCommand `cmd:"" help:"Revoke what a user has allowed an application, with every token."`
}

type grantsListCommand struct {
	User   string `help:"Of this user: username, email address or sub." placeholder:"NAME" xor:"of" required:""`
	Client string `help:"To this client." placeholder:"CLIENT_ID" xor:"of" required:""`
	target `embed:""`
}

// Help is shown by "valetkey grants list --help".
func (grantsListCommand) Help() string {
	return "Examples:\n  valetkey grants list --user ada\n  valetkey grants list --client web --json"
}

// grantView is a grant as JSON.
type grantView struct {
	Sub       string   `json:"sub"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	Resources []string `json:"resources,omitempty"`
	// Details are the latest authorization details (RFC 9396).
	Details   []api.GrantedDetail `json:"authorization_details,omitempty"`
	Earlier   bool                `json:"earlier_authorization_details,omitempty"`
	CreatedAt time.Time           `json:"created_at"`
	UpdatedAt time.Time           `json:"updated_at"`
}

// detailTypes returns the types of the authorization details.
func (v *grantView) detailTypes() string {
	var types []string
	for _, d := range v.Details {
		var object struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(d.Detail, &object) == nil && !slices.Contains(types, object.Type) {
			types = append(types, object.Type)
		}
	}
	return strings.Join(types, " ")
}

// Run lists grants.
func (c *grantsListCommand) Run(ctx context.Context, o *output) error {
	views, err := c.grants(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, views)
	}
	if len(views) == 0 {
		fmt.Fprintln(o.out, "There are no grants.")
		return nil
	}
	table := newTable(o.out, "SUB", "CLIENT_ID", "SCOPE", "DETAILS", "UPDATED")
	for i := range views {
		v := &views[i]
		table.row(v.Sub, v.ClientID, v.Scope, v.detailTypes(), v.UpdatedAt.Format(time.RFC3339))
	}
	return table.Flush()
}

func (c *grantsListCommand) grants(ctx context.Context) ([]grantView, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		return c.grantsOfServer(ctx, connection)
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	views := []grantView{}
	add := func(grants []record.Grant) {
		for i := range grants {
			g := &grants[i]
			v := grantView{Sub: g.Subject, ClientID: g.ClientID, Scope: g.Scope.String(), Resources: g.Resources, Earlier: g.Details.Earlier, CreatedAt: g.CreatedAt.UTC(), UpdatedAt: g.UpdatedAt.UTC()}
			for _, d := range g.Details.Latest {
				v.Details = append(v.Details, api.GrantedDetail(d))
			}
			views = append(views, v)
		}
	}
	if c.User != "" {
		user, err := useradmin.Find(ctx, store.Store, c.User)
		if err != nil {
			return nil, missingUser(err)
		}
		grants, err := store.GrantsOf(ctx, user.ID)
		add(grants)
		return views, err
	}
	const page = 500
	for after := ""; ; {
		grants, err := store.GrantsTo(ctx, c.Client, after, page)
		if err != nil {
			return nil, err
		}
		add(grants)
		if len(grants) < page {
			return views, nil
		}
		after = grants[len(grants)-1].Subject
	}
}

func (c *grantsListCommand) grantsOfServer(ctx context.Context, connection *api.Connection) ([]grantView, error) {
	page := func(ctx context.Context, list api.List) (*api.GrantPage, error) {
		return connection.ClientGrants(ctx, c.Client, list)
	}
	if c.User != "" {
		user, err := userOfServer(ctx, connection, c.User)
		if err != nil {
			return nil, err
		}
		page = func(ctx context.Context, list api.List) (*api.GrantPage, error) {
			return connection.UserGrants(ctx, user.ID, list)
		}
	}
	views := []grantView{}
	for g, err := range api.All(ctx, api.List{}, page, grantsOf) {
		if err != nil {
			return nil, err
		}
		views = append(views, grantView{g.Subject, g.ClientID, g.Scope, g.Resources, g.AuthorizationDetails, g.EarlierDetails, g.CreatedAt, g.UpdatedAt})
	}
	return views, nil
}

// missingUser makes it a usage error if there is no such user.
func missingUser(err error) error {
	if errors.Is(err, useradmin.ErrNotFound) {
		return usageError{fmt.Errorf("%w: \"valetkey users list\" shows all users", err)}
	}
	return err
}

type grantsRevokeCommand struct {
	oneUser `embed:""`
	Client  string `arg:"" name:"client-id" help:"The client_id of the application."`
}

// Help is shown by "valetkey grants revoke --help".
func (grantsRevokeCommand) Help() string { return "Example: valetkey grants revoke ada web" }

// Run revokes a grant.
func (c *grantsRevokeCommand) Run(ctx context.Context, o *output) error {
	text := "no longer allows " + printable(c.Client) + " anything. All of its tokens have ended."
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		if err := connection.DeleteGrant(ctx, user.ID, c.Client, newChange()); err != nil {
			return err
		}
		return c.printAction(o, user, "grant_revoked", text)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	grant, err := store.Grant(ctx, user.ID, c.Client)
	if err == nil {
		err = store.DeleteGrant(ctx, grant.ID)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return usageError{fmt.Errorf("%s has not allowed %s anything", user.Username, c.Client)}
	}
	if err != nil {
		return err
	}
	return c.printAction(o, &api.User{ID: user.ID, Username: user.Username}, "grant_revoked", text)
}
