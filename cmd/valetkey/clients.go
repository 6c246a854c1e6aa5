package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

type clientsCommand struct {
	List clientsListCommand `cmd:"" help:"List all clients."`
	Show clientsShowCommand `cmd:"" help:"Show a client, without its secrets."`
}

// clientView is a client as JSON, without its secrets.
type clientView struct {
	ID         string `json:"client_id"`
	State      string `json:"state"`  // active or retired
	Origin     string `json:"origin"` // declared, registered (by itself), or created (by someone who manages clients)
	DeclaredBy string `json:"declared_by,omitempty"`
	HasSecret  bool   `json:"has_secret"`
	Metadata   any    `json:"metadata"`

	name, method string
}

func viewClient(c *record.Client) clientView {
	v := clientView{ID: c.ID, State: "active", Origin: "created", HasSecret: len(c.Secrets) > 0, name: c.ClientName, method: c.TokenEndpointAuthMethod}
	if v.method == "" {
		v.method = "client_secret_basic or client_secret_post"
	}
	if !c.RetiredAt.IsZero() {
		v.State = "retired"
	}
	switch {
	case c.Registration != nil:
		v.Origin = "registered"
	case c.DeclaredBy != "":
		v.Origin = "declared"
	}
	metadata := map[string]any{}
	for _, part := range []any{c.ClientMetadata, c.ClientSettings} {
		document, err := json.Marshal(part)
		if err == nil {
			err = json.Unmarshal(document, &metadata)
		}
		if err != nil { // every stored client was JSON
			metadata["error"] = err.Error()
		}
	}
	v.Metadata = metadata
	return v
}

type clientsListCommand struct {
	target `embed:""`
}

// Help is shown by "valetkey clients list --help".
func (clientsListCommand) Help() string {
	return "Clients that are identified by a metadata document are not stored, so they are not listed.\n\nExample: valetkey clients list --config valetkey.yaml"
}

// Run lists the clients.
func (c *clientsListCommand) Run(ctx context.Context, o *output) error {
	views, err := c.clients(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, views)
	}
	if len(views) == 0 {
		fmt.Fprintln(o.out, "There are no clients.")
		return nil
	}
	table := newTable(o.out, "CLIENT_ID", "NAME", "STATE", "ORIGIN", "AUTHENTICATION")
	for _, v := range views {
		table.row(v.ID, v.name, v.State, v.Origin, v.method)
	}
	return table.Flush()
}

func (c *clientsListCommand) clients(ctx context.Context) ([]clientView, error) {
	views := []clientView{}
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		for client, err := range connection.AllClients(ctx, api.List{}) {
			if err != nil {
				return nil, err
			}
			views = append(views, viewClient(storedClient(&client)))
		}
		return views, nil
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	const page = 500
	for after, more := "", true; more; {
		clients, err := store.Clients(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for i := range clients {
			views = append(views, viewClient(&clients[i]))
			after = clients[i].ID
		}
		more = len(clients) == page
	}
	return views, nil
}

// storedClient returns what the API shows of a client. It has no secrets, only their number.
func storedClient(c *api.Client) *record.Client {
	stored := &record.Client{ID: c.ID, Secrets: make([]string, c.Secrets), ClientMetadata: c.ClientMetadata, ClientSettings: c.ClientSettings, DeclaredBy: c.DeclaredBy}
	if c.RetiredAt != nil {
		stored.RetiredAt = *c.RetiredAt
	}
	if c.Registered != nil {
		stored.Registration = &record.Registration{CreatedAt: *c.Registered}
	}
	return stored
}

type clientsShowCommand struct {
	ID     string `arg:"" name:"client-id" help:"The client_id of the client."`
	target `embed:""`
}

// Help is shown by "valetkey clients show --help".
func (clientsShowCommand) Help() string {
	return "Example: valetkey clients show web --config valetkey.yaml"
}

// Run shows a client.
func (c *clientsShowCommand) Run(ctx context.Context, o *output) error {
	client, err := c.client(ctx)
	if errors.Is(err, storage.ErrNotFound) || api.StatusOf(err) == http.StatusNotFound {
		return usageError{fmt.Errorf("there is no client %q: \"valetkey clients list\" shows all clients", c.ID)}
	}
	if err != nil {
		return err
	}
	v := viewClient(client)
	v.DeclaredBy = client.DeclaredBy
	if c.JSON {
		return printJSON(o.out, v)
	}
	return printMembers(o.out, v)
}

func (c *clientsShowCommand) client(ctx context.Context) (*record.Client, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		client, err := connection.Client(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		return storedClient(client), nil
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	client, err := store.Client(ctx, c.ID)
	if err == nil {
		client.DeclaredBy, err = store.ClientSource(ctx, c.ID)
	}
	return client, err
}

// printMembers prints the members of a value. Those of nested objects are indented.
func printMembers(w io.Writer, value any) error {
	document, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(document, &members); err != nil {
		return err
	}
	printObject(w, members, "")
	return nil
}

func printObject(w io.Writer, members map[string]any, indent string) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch value := members[name].(type) {
		case map[string]any:
			fmt.Fprintf(w, "%s%s:\n", indent, printable(name))
			printObject(w, value, indent+"  ")
		case []any:
			var texts []string
			for _, member := range value {
				text, ok := member.(string)
				if !ok {
					document, err := json.Marshal(member)
					text = string(document)
					if err != nil {
						text = err.Error()
					}
				}
				texts = append(texts, text)
			}
			fmt.Fprintf(w, "%s%s: %s\n", indent, printable(name), printable(strings.Join(texts, ", ")))
		default:
			fmt.Fprintf(w, "%s%s: %s\n", indent, printable(name), printable(fmt.Sprint(value)))
		}
	}
}
