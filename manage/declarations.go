package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	// maxDeclarations limits declarations, in bytes.
	maxDeclarations = 4 << 20
	// maxDescribed is how many changes are described: each takes up to four queries.
	maxDescribed = 100
)

// Declarations can make administrators, and clients with any role. So only those who may give roles
// may apply them.
func (a *API) registerDeclarations() {
	register(a, api.RolesWrite, operation{id: "apply-declarations", method: http.MethodPost, path: "/declarations",
		summary: "Apply clients, users, scopes and resources of files; with dry_run, say what would change", maxBody: maxDeclarations}, a.applyDeclarations)
}

type applyDeclarationsInput struct {
	Change
	IfMatch string `header:"If-Match" doc:"The ETag of a dry run: nothing is applied if something else would change now"`
	Body    api.NewDeclarations
}

type declarationsOutput struct {
	ETag string `header:"ETag"`
	Body api.DeclarationsResult
}

func (a *API) applyDeclarations(ctx context.Context, p *principal, in *applyDeclarationsInput) (*declarationsOutput, error) {
	if err := p.mustHave("a declaration", api.RoleAdministrator.Permissions()); err != nil {
		return nil, err
	}
	source := in.Body.Source
	if source != "" && source == a.config.Configuration.Source {
		return nil, huma.Error409Conflict(fmt.Sprintf("the source %q is that of the server's own configuration: change %s, or choose another source", source, a.configurationFile()))
	}
	if strings.ContainsFunc(source, unicode.IsControl) { // PostgreSQL stores no NUL
		return nil, huma.Error422UnprocessableEntity("the source is not valid", &huma.ErrorDetail{Location: "body.source", Message: "must not have control characters"})
	}
	if in.Body.Prune && source == "" {
		return nil, huma.Error422UnprocessableEntity("only a source can say which records it no longer names", &huma.ErrorDetail{Location: "body.source", Message: "is required with prune"})
	}
	d, err := configuration.ParseDeclarations(in.Body.Declarations)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("the declarations are not valid", &huma.ErrorDetail{Location: "body.declarations", Message: err.Error()})
	}
	options := declare.Options{Source: source, KeepUnnamed: true, PruneAll: in.Body.Prune}
	plan, err := declare.Diff(ctx, a.config.Store.Store, &d, options)
	if err != nil {
		return nil, declarationProblem(err)
	}
	tag, err := a.tag("declarations", source, plan.Changes)
	if err != nil {
		return nil, err
	}
	out := &declarationsOutput{ETag: tag, Body: api.DeclarationsResult{Changes: []api.DeclarationChange{}, Warnings: notNil(d.Warnings())}}
	if !in.DryRun {
		options.Check = func(plan *declaration.Plan) error {
			plan.KeepAdministrator = true
			if in.IfMatch == "" {
				return nil
			}
			now, err := a.tag("declarations", source, plan.Changes)
			if err != nil {
				return err
			}
			return mustMatch(in.IfMatch, now)
		}
		options.PruneAll = false
		for i := range plan.Changes { // what was compared is removed, and nothing else
			if c := &plan.Changes[i]; c.Action == declaration.ActionRemove {
				options.Prune = append(options.Prune, declaration.Name{Kind: c.Kind, Name: c.Name})
			}
		}
		plan, err = declare.Apply(ctx, a.config.Store.Store, &d, options)
		if conflict := (*declaration.ConflictError)(nil); err != nil && !errors.As(err, &conflict) { // conflicts are in the changes
			return nil, declarationProblem(err)
		}
		if n := declaration.Count(plan.Changes); n > 0 {
			a.log.InfoContext(ctx, "declarations applied by the management API", "source", source, "changes", n, "by", p.id())
		}
	}
	for i := range plan.Changes {
		change := declarationChange(&plan.Changes[i])
		if in.DryRun && i < maxDescribed {
			if err := a.describe(ctx, &change); err != nil {
				return nil, err
			}
		}
		out.Body.Changes = append(out.Body.Changes, change)
	}
	return out, nil
}

func declarationChange(c *declaration.Change) api.DeclarationChange {
	change := api.DeclarationChange{Kind: c.Kind, Name: c.Name, Action: c.Action, Adopted: c.Adopted, NotNamed: c.NotNamed, Problem: c.Problem}
	for _, m := range c.Members {
		change.Members = append(change.Members, api.MemberChange{Name: m.Name, From: m.From, To: m.To})
	}
	return change
}

// declarationProblem is for records that are not valid together with what is stored.
func declarationProblem(err error) error {
	if errors.Is(err, storage.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if invalid, ok := errors.AsType[*declare.InvalidError](err); ok {
		return huma.Error422UnprocessableEntity("the declarations are not valid", &huma.ErrorDetail{Location: "body.declarations", Message: invalid.Error()})
	}
	return err
}

// describe adds to a change of an existing record who changed it last, and whom the change affects.
func (a *API) describe(ctx context.Context, c *api.DeclarationChange) error {
	if c.Action == declaration.ActionAdd {
		return nil
	}
	filter := audit.Filter{Event: c.Kind + ".*", Limit: 100}
	var err error
	switch c.Kind {
	case declaration.KindClient:
		filter.ClientID = c.Name
		if c.Affects, err = a.affectedByClient(ctx, c.Name); err == nil {
			c.Affects.RedirectURIs, err = a.usedRedirectURIs(ctx, c.Name, removedRedirectURIs(c))
		}
	case declaration.KindUser:
		user, findErr := a.config.Accounts.FindAny(ctx, c.Name)
		if errors.Is(findErr, storage.ErrNotFound) {
			return nil
		}
		if err = findErr; err == nil {
			filter.Subject = user.ID
			c.Affects, err = a.affectedByUser(ctx, user.ID)
		}
	}
	if err != nil {
		return err
	}
	records, err := a.config.Store.AuditRecords(ctx, filter)
	if err != nil {
		return fmt.Errorf("find who changed a record last: %w", err)
	}
	for i := range records {
		r := &records[i]
		if event := audit.EventByName(r.Event); event != nil && event.Change && r.Object.Kind == c.Kind && (c.Kind == declaration.KindUser || r.Object.ID == c.Name) {
			c.LastChange = &api.LastChange{Time: r.Time, Event: r.Event, Actor: auditActor(&r.Actor)}
			return nil
		}
	}
	return nil
}

// maxAffected is the most users who are counted for a change.
const maxAffected = 1000

func (a *API) affectedByClient(ctx context.Context, id string) (*api.Affected, error) {
	grants, err := a.config.Store.GrantsTo(ctx, id, "", maxAffected)
	if err != nil {
		return nil, err
	}
	affected := &api.Affected{Users: len(grants), More: len(grants) == maxAffected}
	for i := range grants {
		if at := optionalTime(grants[i].UpdatedAt); at != nil && (affected.LatestGrant == nil || at.After(*affected.LatestGrant)) {
			affected.LatestGrant = at
		}
	}
	return affected, nil
}

// removedRedirectURIs returns the redirect URIs of a client that a change removes.
func removedRedirectURIs(c *api.DeclarationChange) []string {
	var removed []string
	for _, m := range c.Members {
		if m.Name != "redirect_uris" {
			continue
		}
		var from, to []string
		// A member that was absent, or will be, is "", which is no JSON.
		_, _ = json.Unmarshal([]byte(m.From), &from), json.Unmarshal([]byte(m.To), &to)
		for _, uri := range from {
			if !slices.Contains(to, uri) {
				removed = append(removed, uri)
			}
		}
	}
	return removed
}

// maxRedirectURIs is the most redirect URIs of a client whose uses are counted.
const maxRedirectURIs = 20

// usedRedirectURIs returns those that users were sent to in the last 90 days.
func (a *API) usedRedirectURIs(ctx context.Context, clientID string, uris []string) ([]api.RedirectURIUse, error) {
	var used []api.RedirectURIUse
	for _, uri := range uris[:min(len(uris), maxRedirectURIs)] {
		owner, _ := record.RedirectURIUse(clientID, uri, "")
		uses, err := a.config.Store.UsesOf(ctx, time.Now(), owner)
		if err != nil {
			return nil, fmt.Errorf("find out who uses a redirect URI: %w", err)
		}
		if len(uses) == 0 {
			continue
		}
		use := api.RedirectURIUse{RedirectURI: uri, Users: len(uses), More: len(uses) == maxAffected}
		for i := range uses {
			if uses[i].At.After(use.LastUse) {
				use.LastUse = uses[i].At
			}
		}
		used = append(used, use)
	}
	return used, nil
}

func (a *API) affectedByUser(ctx context.Context, sub string) (*api.Affected, error) {
	sessions, _, err := a.sessionsOf(ctx, sub)
	if err != nil {
		return nil, err
	}
	grants, err := a.config.Store.GrantsOf(ctx, sub)
	if err != nil {
		return nil, err
	}
	return &api.Affected{Sessions: len(sessions), Clients: len(grants)}, nil
}
