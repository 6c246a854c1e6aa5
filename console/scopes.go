package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
)

type scopesView struct {
	Scopes []api.Scope
	Next   string
	MayAdd bool
}

func (v *visit) showScopes(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r)
	found, err := v.api.Scopes(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "scopes", "Scopes", scopesView{found.Scopes, v.nextURL("/scopes", list, found.Next), v.may(api.ScopesWrite)})
}

// scopeForm is the content of the form of a scope.
type scopeForm struct {
	// Editing is the name of the scope that the form changes; "" for a new one.
	Editing, ETag string
	Name          string
	Description   string
	Claims        string // separated by spaces
	Optional      bool
	DeclaredBy    string
	MayChange     bool
	Problems      []string
}

func readScopeForm(form url.Values) scopeForm {
	return scopeForm{Editing: form.Get("id"), ETag: form.Get("etag"), Name: strings.TrimSpace(form.Get("name")), Description: strings.TrimSpace(form.Get("description")),
		Claims: form.Get("claims"), Optional: form.Has("optional"), MayChange: true}
}

func (f scopeForm) members() *api.ScopeMembers {
	return &api.ScopeMembers{Description: f.Description, Claims: strings.Fields(f.Claims), Optional: f.Optional}
}

func (v *visit) writeScopeForm(w http.ResponseWriter, status int, form scopeForm) error {
	title := "New scope"
	if form.Editing != "" {
		title = form.Editing
	}
	return v.write(w, status, "scope", title, form)
}

// showNewScope shows an empty form. A link can name the scope.
func (v *visit) showNewScope(w http.ResponseWriter, r *http.Request) error {
	form := scopeForm{Name: r.URL.Query().Get("id"), Optional: true, MayChange: true}
	if form.Name == "groups" {
		form.Description, form.Claims = "See which groups you are in", "groups"
	}
	return v.writeScopeForm(w, http.StatusOK, form)
}

func (v *visit) createScope(w http.ResponseWriter, r *http.Request) error {
	form := readScopeForm(r.PostForm)
	form.Editing = ""
	if _, err := v.api.CreateScope(r.Context(), form.Name, form.members(), api.Change{}); err != nil {
		return v.scopeRefused(w, form, err)
	}
	return v.done(w, "/scopes", "scope-created")
}

func (v *visit) showScope(w http.ResponseWriter, r *http.Request) error {
	scope, err := v.api.Scope(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeScopeForm(w, http.StatusOK, scopeForm{Editing: scope.Name, ETag: scope.ETag, Name: scope.Name, Description: scope.Description,
		Claims: strings.Join(scope.Claims, " "), Optional: scope.Optional, DeclaredBy: scope.DeclaredBy, MayChange: v.may(api.ScopesWrite) && scope.DeclaredBy == ""})
}

func (v *visit) editScope(w http.ResponseWriter, r *http.Request) error {
	form := readScopeForm(r.PostForm)
	form.Name = form.Editing
	if _, err := v.api.UpdateScope(r.Context(), form.Editing, form.ETag, form.members(), api.Change{}); err != nil {
		return v.scopeRefused(w, form, err)
	}
	return v.done(w, "/scopes", "scope-changed")
}

func (v *visit) scopeRefused(w http.ResponseWriter, form scopeForm, err error) error {
	problems, status := problemsOf(err)
	if problems == nil {
		return err
	}
	form.Problems = problems
	return v.writeScopeForm(w, status, form)
}

func (v *visit) showDeleteScope(w http.ResponseWriter, r *http.Request) error {
	scope, err := v.api.Scope(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: scope.Name, ETag: scope.ETag, Title: "Delete the scope " + scope.Name + "?", Cancel: v.base + at("/scope", scope.Name), Button: "Delete",
		Text: "Clients cannot ask for it any longer. Tokens that have it keep it until they are renewed.",
	})
}

func (v *visit) deleteScope(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.DeleteScope(r.Context(), r.PostForm.Get("id"), r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/scopes", "scope-deleted")
}
