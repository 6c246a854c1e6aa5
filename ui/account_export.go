package ui

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage/record"
)

const exportPath = "/account/export"

// exportFormat names the format of the document, which docs/guides/people.md describes.
const exportFormat = "valetkey-account-1"

// exported is everything that is stored about a user, without secrets.
type exported struct {
	Format       string                   `json:"format"`
	ExportedAt   time.Time                `json:"exported_at"`
	Issuer       string                   `json:"issuer"`
	Account      exportedAccount          `json:"account"`
	Methods      []exportedMethod         `json:"sign_in_methods"`
	Sessions     []exportedSession        `json:"sessions"`
	Applications []exportedGrant          `json:"applications"`
	Events       []identity.SecurityEvent `json:"security_events"`
}

type exportedAccount struct {
	Sub           string                `json:"sub"`
	Username      string                `json:"username"`
	FormerNames   []identity.FormerName `json:"former_usernames,omitempty"`
	Claims        map[string]any        `json:"claims,omitempty"`
	PendingEmail  string                `json:"pending_email,omitempty"`
	Administrator bool                  `json:"administrator,omitempty"`
	Origin        string                `json:"origin"`
	CreatedAt     time.Time             `json:"created_at,omitzero"`
	UpdatedAt     time.Time             `json:"updated_at,omitzero"`
}

type exportedMethod struct {
	Kind       identity.Method `json:"kind"`
	ID         string          `json:"id,omitempty"`
	Name       string          `json:"name,omitempty"`
	CreatedAt  time.Time       `json:"created_at,omitzero"`
	LastUsedAt time.Time       `json:"last_used_at,omitzero"`
}

type exportedSession struct {
	ID         string    `json:"id"`
	SignedInAt time.Time `json:"signed_in_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	Expires    time.Time `json:"expires"`
	UserAgent  string    `json:"user_agent,omitempty"`
	Address    string    `json:"address,omitempty"`
	LastUsedBy string    `json:"last_used_address,omitempty"`
	AMR        []string  `json:"amr,omitempty"`
	ACR        string    `json:"acr,omitempty"`
}

type exportedGrant struct {
	ClientID   string           `json:"client_id"`
	Name       string           `json:"client_name,omitempty"`
	Scope      string           `json:"scope"`
	Declined   string           `json:"declined_scope,omitempty"`
	Resources  []string         `json:"resources,omitempty"`
	Details    []exportedDetail `json:"authorization_details,omitempty"`
	CreatedAt  time.Time        `json:"created_at,omitzero"`
	UpdatedAt  time.Time        `json:"updated_at,omitzero"`
	LastUsedAt time.Time        `json:"last_used_at,omitzero"`
	LastUsedBy string           `json:"last_used_address,omitempty"`
}

// exportedDetail is an authorization details object that the user allowed, as the client sent it.
type exportedDetail struct {
	Detail    json.RawMessage `json:"detail"`
	AllowedAt time.Time       `json:"allowed_at"`
}

func (s *session) showExport(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, exportPath); done {
		return err
	}
	return s.write(w, pageResponse{template: "export", title: text("export.title"), account: s.who.User})
}

// export sends the document as a download.
func (s *session) export(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, exportPath); done {
		return err
	}
	document, err := s.exportDocument(r)
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the data of an account: %w", err)
	}
	s.config.Accounts.AddEvent(r.Context(), time.Now(), s.who.User.ID, identity.EventExported, "", s.activity(r))
	s.events.Record(r.Context(), event.AccountExported, slog.String("sub", s.who.User.ID), slog.String("username", s.who.User.Username))
	s.setCommonHeaders(w.Header())
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `attachment; filename="account.json"`)
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	w.Write(append(body, '\n')) // an error means that the browser has disconnected
	return nil
}

func (s *session) exportDocument(r *http.Request) (*exported, error) {
	ctx, now, user := r.Context(), time.Now(), s.who.User
	uses, err := s.config.Accounts.Uses(ctx, now, user.ID)
	if err != nil {
		return nil, err
	}
	d := &exported{Format: exportFormat, ExportedAt: now.UTC().Truncate(time.Second), Issuer: s.config.Issuer, Events: user.RecentEvents(now)}
	d.Account = exportedAccount{
		Sub: user.ID, Username: user.Username, FormerNames: user.Account.FormerNames, Claims: user.Claims,
		Administrator: user.Administrator, Origin: user.Origin, CreatedAt: user.CreatedAt, UpdatedAt: user.UpdatedAt,
	}
	if d.Account.PendingEmail, err = s.config.Accounts.PendingEmail(ctx, now, user); err != nil {
		return nil, err
	}
	d.Methods = []exportedMethod{}
	if user.Has(identity.MethodPassword) {
		d.Methods = append(d.Methods, exportedMethod{Kind: identity.MethodPassword})
	}
	for _, a := range user.Authenticators {
		d.Methods = append(d.Methods, exportedMethod{a.Kind, a.ID, a.Name, a.CreatedAt, a.LastUsedAt})
	}
	sessions, err := s.config.Accounts.Sessions(ctx, now, user.ID)
	if err != nil {
		return nil, err
	}
	for i := range sessions {
		at, remote := sessions[i].LastUse(uses)
		d.Sessions = append(d.Sessions, exportedSession{
			ID: sessions[i].ID, SignedInAt: sessions[i].AuthTime, LastUsedAt: at, Expires: sessions[i].Expires, UserAgent: sessions[i].UserAgent,
			Address: addressWords(sessions[i].Remote), LastUsedBy: addressWords(remote), AMR: sessions[i].AMR, ACR: sessions[i].ACR,
		})
	}
	grants, err := s.config.Store.GrantsOf(ctx, user.ID)
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	d.Applications = []exportedGrant{}
	for _, g := range grants {
		use := uses[record.GrantUse(g.ID)]
		name := ""
		if client, err := s.config.Store.Client(ctx, g.ClientID); err == nil {
			name = client.ClientName
		}
		var details []exportedDetail
		for _, detail := range g.Details.Latest {
			details = append(details, exportedDetail{detail.Detail, detail.At})
		}
		d.Applications = append(d.Applications, exportedGrant{
			Details: details, ClientID: g.ClientID, Name: name, Scope: g.Scope.String(), Declined: g.Declined.String(), Resources: g.Resources,
			CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt, LastUsedAt: use.At, LastUsedBy: addressWords(use.Remote),
		})
	}
	return d, nil
}
