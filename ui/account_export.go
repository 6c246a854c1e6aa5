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
	Linked       []identity.ExternalLink  `json:"linked_accounts"`
	Sessions     []exportedSession        `json:"sessions"`
	Applications []exportedGrant          `json:"applications"`
	Events       []identity.SecurityEvent `json:"security_events"`
	Remembered   *identity.Remembered     `json:"remembered"`
}

type exportedAccount struct {
	Sub           string                `json:"sub"`
	Username      string                `json:"username"`
	FormerNames   []identity.FormerName `json:"former_usernames,omitempty"`
	Claims        map[string]any        `json:"claims,omitempty"`
	PendingEmail  string                `json:"pending_email,omitempty"`
	Administrator bool                  `json:"administrator,omitempty"`
	Role          string                `json:"role,omitempty"`
	UserCode      bool                  `json:"user_code,omitempty"`
	Origin        string                `json:"origin"`
	DeclaredBy    string                `json:"declared_by,omitempty"`
	CreatedAt     time.Time             `json:"created_at,omitzero"`
	UpdatedAt     time.Time             `json:"updated_at,omitzero"`
	// EverythingEndedAt is when all sessions and tokens ended, and RecoveringSince when the user got back in with
	// messages. Recovery is a recovery by mail that waits.
	EverythingEndedAt time.Time              `json:"everything_ended_at,omitzero"`
	RecoveringSince   time.Time              `json:"recovering_since,omitzero"`
	Recovery          *identity.MailRecovery `json:"recovery,omitempty"`
}

type exportedMethod struct {
	Kind       identity.Method `json:"kind"`
	ID         string          `json:"id,omitempty"`
	Name       string          `json:"name,omitempty"`
	CreatedAt  time.Time       `json:"created_at,omitzero"`
	LastUsedAt time.Time       `json:"last_used_at,omitzero"`
	// CodesLeft is set for recovery codes, Passkey for a passkey.
	CodesLeft *int              `json:"codes_left,omitempty"`
	Passkey   *identity.Passkey `json:"passkey,omitempty"`
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
	// Proofs are what AMR and ACR follow from, and earlier ones of the session.
	Proofs []exportedProof `json:"proofs,omitempty"`
}

type exportedProof struct {
	Method   identity.Method `json:"method"`
	At       time.Time       `json:"at"`
	Provider string          `json:"provider,omitempty"`
}

type exportedGrant struct {
	ClientID   string           `json:"client_id"`
	Name       string           `json:"client_name,omitempty"`
	Scope      string           `json:"scope"`
	Declined   string           `json:"declined_scope,omitempty"`
	Resources  []string         `json:"resources,omitempty"`
	Details    []exportedDetail `json:"authorization_details,omitempty"`
	Earlier    bool             `json:"earlier_authorization_details,omitempty"`
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
		Administrator: user.Administrator, Role: user.Account.Role, UserCode: user.UserCodeHash != "",
		Origin: user.Origin, DeclaredBy: user.DeclaredBy, CreatedAt: user.CreatedAt, UpdatedAt: user.UpdatedAt,
		EverythingEndedAt: user.EndedAt, RecoveringSince: user.Account.RecoveringSince, Recovery: user.Account.Recovery,
	}
	d.Linked = append([]identity.ExternalLink{}, user.External...)
	if d.Remembered, err = s.config.Accounts.Remembered(ctx, now, user.ID); err != nil {
		return nil, err
	}
	if d.Account.PendingEmail, err = s.config.Accounts.PendingEmail(ctx, now, user); err != nil {
		return nil, err
	}
	d.Methods = []exportedMethod{}
	if user.Has(identity.MethodPassword) {
		d.Methods = append(d.Methods, exportedMethod{Kind: identity.MethodPassword})
	}
	for _, a := range user.Authenticators {
		m := exportedMethod{Kind: a.Kind, ID: a.ID, Name: a.Name, CreatedAt: a.CreatedAt, LastUsedAt: a.LastUsedAt, Passkey: a.Passkey}
		if a.RecoveryCodes != nil {
			left := len(a.RecoveryCodes.Hashes)
			m.CodesLeft = &left
		}
		d.Methods = append(d.Methods, m)
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
			Proofs: exportedProofs(sessions[i].Proofs),
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
			Details: details, Earlier: g.Details.Earlier, ClientID: g.ClientID, Name: name, Scope: g.Scope.String(), Declined: g.Declined.String(), Resources: g.Resources,
			CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt, LastUsedAt: use.At, LastUsedBy: addressWords(use.Remote),
		})
	}
	return d, nil
}

func exportedProofs(proofs []identity.ProvedMethod) (exported []exportedProof) {
	for _, p := range proofs {
		exported = append(exported, exportedProof{p.Method, p.At, p.Provider()})
	}
	return exported
}
