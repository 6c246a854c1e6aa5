package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

type resourcesView struct {
	Resources []api.Resource
	Next      string
	MayAdd    bool
}

func (v *visit) showResources(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r)
	found, err := v.api.Resources(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "resources", "APIs", resourcesView{found.Resources, v.nextURL("/resources", list, found.Next), v.may(api.ResourcesWrite)})
}

// resourceForm is the content of the form of a resource.
type resourceForm struct {
	// Editing is the identifier of the resource that the form changes; "" for a new one.
	Editing, ETag string
	Identifier    string
	Name          string
	Scopes        string // separated by spaces
	Format        string // "", jwt or opaque
	Introspection string // client_ids, one on each line
	Lifetime      string // such as 10m; "" for the server's
	DeclaredBy    string
	MayChange     bool
	Problems      []string
}

func readResourceForm(form url.Values) resourceForm {
	return resourceForm{Editing: form.Get("id"), ETag: form.Get("etag"), Identifier: strings.TrimSpace(form.Get("identifier")), Name: strings.TrimSpace(form.Get("name")),
		Scopes: form.Get("scopes"), Format: form.Get("format"), Introspection: form.Get("introspection"), Lifetime: strings.TrimSpace(form.Get("lifetime")), MayChange: true}
}

func formOfResource(resource *api.Resource) resourceForm {
	form := resourceForm{Editing: resource.Identifier, ETag: resource.ETag, Identifier: resource.Identifier, Name: resource.Name, Scopes: strings.Join(resource.Scopes, " "),
		Format: resource.AccessTokenFormat, Introspection: strings.Join(resource.IntrospectionClients, "\n"), DeclaredBy: resource.DeclaredBy}
	if resource.AccessTokenLifetime != 0 {
		form.Lifetime = time.Duration(resource.AccessTokenLifetime).String()
	}
	return form
}

// members returns the members of a resource with those of the form. Members that the form does not have
// stay as they are.
func (f resourceForm) members(m api.ResourceMembers) (*api.ResourceMembers, error) {
	m.Name, m.Scopes, m.AccessTokenFormat, m.IntrospectionClients = f.Name, strings.Fields(f.Scopes), f.Format, lines(f.Introspection)
	m.AccessTokenLifetime = 0
	if f.Lifetime != "" {
		if err := m.AccessTokenLifetime.UnmarshalText([]byte(f.Lifetime)); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

func (v *visit) writeResourceForm(w http.ResponseWriter, status int, form resourceForm) error {
	title := "New API"
	switch {
	case form.Name != "" && form.Editing != "":
		title = form.Name
	case form.Editing != "":
		title = form.Editing
	}
	return v.write(w, status, "resource", title, form)
}

func (v *visit) showNewResource(w http.ResponseWriter, _ *http.Request) error {
	return v.writeResourceForm(w, http.StatusOK, resourceForm{MayChange: true})
}

func (v *visit) createResource(w http.ResponseWriter, r *http.Request) error {
	form := readResourceForm(r.PostForm)
	form.Editing = ""
	members, err := form.members(api.ResourceMembers{})
	if err != nil {
		return v.resourceNotRead(w, form, err)
	}
	if _, err := v.api.CreateResource(r.Context(), form.Identifier, members, api.Change{}); err != nil {
		return v.resourceRefused(w, form, err)
	}
	return v.done(w, "/resources", "resource-created")
}

func (v *visit) showResource(w http.ResponseWriter, r *http.Request) error {
	resource, err := v.api.Resource(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	form := formOfResource(resource)
	form.MayChange = v.may(api.ResourcesWrite) && resource.DeclaredBy == ""
	return v.writeResourceForm(w, http.StatusOK, form)
}

func (v *visit) editResource(w http.ResponseWriter, r *http.Request) error {
	form := readResourceForm(r.PostForm)
	form.Identifier = form.Editing
	resource, err := v.api.Resource(r.Context(), form.Editing)
	if err != nil {
		return err
	}
	members, err := form.members(resource.ResourceMembers)
	if err != nil {
		return v.resourceNotRead(w, form, err)
	}
	if _, err := v.api.UpdateResource(r.Context(), form.Editing, form.ETag, members, api.Change{}); err != nil {
		return v.resourceRefused(w, form, err)
	}
	return v.done(w, "/resources", "resource-changed")
}

// resourceNotRead shows the form again if one of its fields cannot be read.
func (v *visit) resourceNotRead(w http.ResponseWriter, form resourceForm, err error) error {
	form.Problems = []string{"access_token_lifetime: " + err.Error()}
	return v.writeResourceForm(w, http.StatusUnprocessableEntity, form)
}

func (v *visit) resourceRefused(w http.ResponseWriter, form resourceForm, err error) error {
	problems, status := problemsOf(err)
	if problems == nil {
		return err
	}
	form.Problems = problems
	return v.writeResourceForm(w, status, form)
}

func (v *visit) showDeleteResource(w http.ResponseWriter, r *http.Request) error {
	resource, err := v.api.Resource(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: resource.Identifier, ETag: resource.ETag, Title: "Delete the API " + resource.Identifier + "?", Cancel: v.base + at("/resource", resource.Identifier), Button: "Delete",
		Text: "Clients get no more tokens for it. Tokens that it accepts by itself remain valid there until they expire.",
	})
}

func (v *visit) deleteResource(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.DeleteResource(r.Context(), r.PostForm.Get("id"), r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/resources", "resource-deleted")
}
