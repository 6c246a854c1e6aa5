package console

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/valetkey/valetkey/manage/api"
)

type clientsView struct {
	Clients []api.Client
	Query   string
	Next    string
	MayAdd  bool
}

func (v *visit) showClients(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r, "q")
	found, err := v.api.Clients(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "clients", "Clients", clientsView{found.Clients, r.URL.Query().Get("q"), v.nextURL("/clients", list, found.Next), v.may(api.ClientsWrite)})
}

type clientView struct {
	*api.Client
	Kind      string
	Members   string // JSON
	MayChange bool
	// Secret is a new client secret, which is shown once; "" if there is none.
	Secret      string
	SecretsText string
	// Grants and Tokens are empty if the user of the console may not see them. NextGrants is the URL of
	// the next page of grants; "" at the end.
	Grants                                     []clientGrant
	Tokens                                     []api.Token
	NextGrants                                 string
	MayAddSecret, MayRemoveSecret              bool
	MayEnd, MayRevoke                          bool
	MaySeeGrants, MaySeeTokens, MaySeeRefusals bool
	// Waiting is set if the client has no redirect URI yet, MayWait if the user may accept one.
	Waiting, MayWait bool
}

func (v *visit) showClient(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeClient(w, r, client, "")
}

func (v *visit) writeClient(w http.ResponseWriter, r *http.Request, client *api.Client, secret string) error {
	members, err := json.MarshalIndent(client.ClientMembers, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the client %q: %w", client.ID, err)
	}
	view := clientView{Client: client, Kind: kindOf(client.ClientMembers).title, Members: string(members), Secret: secret, MayChange: v.may(api.ClientsWrite) && client.DeclaredBy == ""}
	if err := v.fillClient(r.Context(), &view, r.URL.Query().Get("cursor")); err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "client", nameOf(client), view)
}

// nameOf returns the name of a client, or its ID if it has none.
func nameOf(client *api.Client) string {
	if client.ClientName != "" {
		return client.ClientName
	}
	return client.ID
}

// isolated returns a name for use within a sentence: characters that change the direction of text have no
// effect on what follows the name (UAX #9, section 2.7).
func isolated(name string) string { return "\u2068" + name + "\u2069" }

func (v *visit) showNewClient(w http.ResponseWriter, r *http.Request) error {
	return v.writeClientForm(w, http.StatusOK, clientForm{Kind: kinds[0].name, Scope: "openid profile email"})
}

func (v *visit) createClient(w http.ResponseWriter, r *http.Request) error {
	form := readClientForm(r.PostForm)
	members := form.members(api.ClientMembers{})
	if form.Wait && len(members.RedirectURIs) == 0 && isWeb(members) {
		members.RedirectURIs = []string{waitingURI}
	}
	created, err := v.api.CreateClient(r.Context(), &api.NewClient{ID: form.ID, ClientMembers: members}, api.Change{})
	if err != nil {
		return v.clientRefused(w, form, err)
	}
	// The secret is only in this response: a page that could be loaded again would have to keep it.
	return v.writeClient(w, r, &created.Client, created.Secret)
}

func (v *visit) showEditClient(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	form, err := formOf(client)
	if err != nil {
		return err
	}
	return v.writeClientForm(w, http.StatusOK, form)
}

func (v *visit) editClient(w http.ResponseWriter, r *http.Request) error {
	form := readClientForm(r.PostForm)
	client, err := v.api.Client(r.Context(), form.Editing)
	if err != nil {
		return err
	}
	members := form.members(client.ClientMembers)
	if form.JSON != "" {
		members = api.ClientMembers{}
		if err := decodeMembers(form.JSON, &members); err != nil {
			form.Problems = []string{sentence(err.Error())}
			return v.writeClientForm(w, http.StatusUnprocessableEntity, form)
		}
	}
	// The form has the version that it was made from, so that nobody's change is lost.
	if _, err := v.api.UpdateClient(r.Context(), form.Editing, form.ETag, &members, api.Change{}); err != nil {
		return v.clientRefused(w, form, err)
	}
	return v.done(w, at("/client", form.Editing), "client-changed")
}

func (v *visit) clientRefused(w http.ResponseWriter, form clientForm, err error) error {
	problems, status := problemsOf(err)
	if problems == nil {
		return err
	}
	form.Problems = problems
	return v.writeClientForm(w, status, form)
}

func (v *visit) showDeleteClient(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: client.ID, ETag: client.ETag, Title: "Delete " + isolated(nameOf(client)) + "?", Cancel: v.base + at("/client", client.ID), Button: "Delete",
		Text: "Everything that was issued to it ends: its tokens, and what users have allowed it to do. This cannot be undone. To stop it for a while, disable it instead.",
	})
}

func (v *visit) deleteClient(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.DeleteClient(r.Context(), r.PostForm.Get("id"), r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/clients", "client-deleted")
}
