package console

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

// recipe says how an application becomes a client, and what its operator has to enter there.
type recipe struct {
	id, name, about string
	kind            string // of clientKinds; "" is web
	// redirects are its redirect URIs. None means that only the application knows them, so the operator
	// waits for its first request.
	redirects, logout []string
	scope             string
	method            string // token_endpoint_auth_method; "" for that of the kind
	// idTokenClaims are claims that it reads from the ID token and not from the UserInfo endpoint.
	idTokenClaims []string
	withoutPKCE   bool
	// where says where to enter paste.
	where, paste string
}

func findRecipe(id string) *recipe {
	for i := range recipes {
		if recipes[i].id == id {
			return &recipes[i]
		}
	}
	return nil
}

// needsBase reports whether the recipe needs the URL of the application.
func (r *recipe) needsBase() bool {
	return slices.ContainsFunc(r.redirects, func(uri string) bool { return strings.Contains(uri, "{base") }) || strings.Contains(r.paste, "{base}")
}

// validBase and validRecipeClientID allow nothing that could end a value in the configuration files of
// the recipes.
var (
	validBase = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(https://[A-Za-z0-9.-]+|http://localhost|http://127\.0\.0\.1)(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$`)
	})
	validRecipeClientID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`) })
	plainName           = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N} .-]*$`) })
)

// fill replaces the placeholders of a text: {base}, {base_with_port}, {issuer}, {issuer_host}, {name},
// {name_word}, {client_id} and {client_secret}.
func (v *visit) fill(text, base, clientID, secret string) string {
	name, host := v.config.Frame.Look().Name, ""
	if !plainName().MatchString(name) {
		name = "SSO"
	}
	if issuer, err := url.Parse(v.config.Issuer); err == nil {
		host = issuer.Host
	}
	withPort := base
	if u, err := url.Parse(base); err == nil && u.Scheme == "https" && u.Port() == "" {
		u.Host += ":443"
		withPort = u.String()
	}
	if secret == "" {
		secret = "CLIENT_SECRET"
	}
	return strings.NewReplacer("{base}", base, "{base_with_port}", withPort, "{issuer}", strings.TrimSuffix(v.config.Issuer, "/"), "{issuer_host}", host,
		"{name}", name, "{name_word}", strings.ReplaceAll(name, " ", "-"), "{client_id}", clientID, "{client_secret}", secret).Replace(text)
}

func (v *visit) fillAll(texts []string, base string) []string {
	var filled []string
	for _, text := range texts {
		filled = append(filled, v.fill(text, base, "", ""))
	}
	return filled
}

// membersOf returns the client of a recipe.
func (v *visit) membersOf(r *recipe, base string) api.ClientMembers {
	form := clientForm{Name: r.name, Kind: r.kind, Scope: r.scope, URI: base,
		RedirectURIs: strings.Join(v.fillAll(r.redirects, base), "\n"), LogoutURIs: strings.Join(v.fillAll(r.logout, base), "\n")}
	if form.Kind == "" {
		form.Kind = "web"
	}
	if len(r.redirects) == 0 {
		form.RedirectURIs = waitingURI
	}
	members := form.members(api.ClientMembers{})
	if r.method != "" {
		members.TokenEndpointAuthMethod = r.method
	}
	members.IDTokenClaims, members.InsecureNoCodeChallenge = r.idTokenClaims, r.withoutPKCE
	return members
}

type recipesView struct {
	Recipes []recipeCard
	Query   string
}

type recipeCard struct{ ID, Name, About string }

func (v *visit) showRecipes(w http.ResponseWriter, r *http.Request) error {
	view := recipesView{Query: r.URL.Query().Get("q")}
	for i := range recipes {
		if strings.Contains(strings.ToLower(recipes[i].name+" "+recipes[i].about), strings.ToLower(view.Query)) {
			view.Recipes = append(view.Recipes, recipeCard{recipes[i].id, recipes[i].name, recipes[i].about})
		}
	}
	slices.SortFunc(view.Recipes, func(a, b recipeCard) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return v.write(w, http.StatusOK, "recipes", "Add a known application", view)
}

// recipeForm is the form of a recipe, and what to paste when the client was created.
type recipeForm struct {
	ID, Name, About    string
	Base, ClientID     string
	NeedsBase          bool
	Redirects          []string // as they will be
	Scope              string
	WithoutPKCE, Waits bool
	// LacksGroups is set if the recipe has the scope groups, and the server does not.
	LacksGroups, MayAddScopes bool
	Problems                  []string
	// Where and Paste are set after the client was created, and contain the secret.
	Where, Paste string
	Secret       string
}

func (v *visit) recipeForm(r *http.Request, found *recipe, base, clientID string) (recipeForm, error) {
	form := recipeForm{ID: found.id, Name: found.name, About: found.about, Base: base, ClientID: clientID, NeedsBase: found.needsBase(), Scope: found.scope,
		WithoutPKCE: found.withoutPKCE, Waits: len(found.redirects) == 0, MayAddScopes: v.may(api.ScopesWrite)}
	shown := base
	if shown == "" {
		shown = "https://…"
	}
	form.Redirects = v.fillAll(found.redirects, shown)
	if slices.Contains(strings.Fields(found.scope), "groups") && v.may(api.ScopesRead) {
		_, err := v.api.Scope(r.Context(), "groups")
		if form.LacksGroups = api.StatusOf(err) == http.StatusNotFound; err != nil && !form.LacksGroups {
			return form, err
		}
	}
	return form, nil
}

var errNoRecipe = &api.Problem{Status: http.StatusNotFound, Title: "there is no such recipe"}

func (v *visit) showRecipe(w http.ResponseWriter, r *http.Request) error {
	found := findRecipe(r.URL.Query().Get("id"))
	if found == nil {
		return errNoRecipe
	}
	form, err := v.recipeForm(r, found, "", found.id)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "recipe", "Add "+found.name, form)
}

func (v *visit) createFromRecipe(w http.ResponseWriter, r *http.Request) error {
	found := findRecipe(r.PostForm.Get("id"))
	if found == nil {
		return errNoRecipe
	}
	base, clientID := strings.TrimRight(strings.TrimSpace(r.PostForm.Get("base")), "/"), strings.TrimSpace(r.PostForm.Get("client_id"))
	form, err := v.recipeForm(r, found, base, clientID)
	if err != nil {
		return err
	}
	if form.NeedsBase && !validBase().MatchString(base) {
		form.Problems = append(form.Problems, "The URL of the application must be like https://app.example.com or https://example.com/app.")
	}
	if !validRecipeClientID().MatchString(clientID) {
		form.Problems = append(form.Problems, "The client_id may have letters, digits, and . _ ~ - only.")
	}
	if form.Problems != nil {
		return v.write(w, http.StatusUnprocessableEntity, "recipe", "Add "+found.name, form)
	}
	created, err := v.api.CreateClient(r.Context(), &api.NewClient{ID: clientID, ClientMembers: v.membersOf(found, base)}, api.Change{})
	if err != nil {
		problems, status := problemsOf(err)
		if problems == nil {
			return err
		}
		form.Problems = problems
		return v.write(w, status, "recipe", "Add "+found.name, form)
	}
	// The secret is only in this response.
	form.ClientID, form.Secret = created.ID, created.Secret
	form.Where, form.Paste = v.fill(found.where, base, created.ID, created.Secret), v.fill(found.paste, base, created.ID, created.Secret)
	return v.write(w, http.StatusOK, "recipe", found.name+" was added", form)
}

// isWeb reports whether users sign in to a client, so that it needs a redirect URI.
func isWeb(m api.ClientMembers) bool {
	return slices.Contains(m.GrantTypes, oauth.GrantTypeAuthorizationCode)
}
