package ui

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

// linkedPath is the page with the accounts at other providers that a user signs in with.
const linkedPath = "/account/linked"

type linkedView struct {
	User   *identity.User
	Notice *messages.Text
	Alert  *messages.Text
	Links  []linkView
	// Others are the providers that can be linked, Directories the directories. Identifier is what was
	// typed as the name there.
	Others, Directories []providerView
	Identifier          string
}

// linkView is a linked account.
type linkView struct {
	ID       string
	Provider providerView
	// Label and Email are how the provider describes the user.
	Label, Email    string
	Since, LastUsed moment
	// OtherEmail is set if the address differs from the one of the account.
	OtherEmail bool
	// Off is set if the provider is no longer available.
	Off bool
}

// linkedRow is the row of the account page's list of ways to sign in.
func linkedRow(s *session, user *identity.User) []methodView {
	if len(s.config.Upstream.Active()) == 0 && len(s.config.Directories.Active()) == 0 && len(user.External) == 0 {
		return nil
	}
	v := methodView{Name: text("linked.title"), Detail: text("linked.none-hint"), Href: s.base + linkedPath, Action: text("common.add")}
	names := ""
	for _, link := range user.External {
		if names != "" {
			names += ", "
		}
		names += s.providerOf(link).Name
	}
	if names != "" {
		v.Detail, v.Action = messages.Plain(names), text("account.manage")
	}
	return []methodView{v}
}

// providerOf returns the provider of a link, which may no longer be configured.
func (s *session) providerOf(link identity.ExternalLink) providerView {
	if p := s.config.Upstream.Provider(link.Provider); p != nil {
		return s.providerView(p)
	}
	if d := s.config.Directories.Directory(link.Provider); d != nil {
		return providerView{ID: d.ID(), Name: cleanName(d.Name())}
	}
	return providerView{Name: cleanName(link.Provider)}
}

func (s *session) showLinked(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	return s.writeLinked(w, linkedView{Notice: s.notice(w, r)}, pageResponse{})
}

func (s *session) writeLinked(w http.ResponseWriter, v linkedView, a pageResponse) error {
	v.User = s.who.User
	for _, link := range v.User.External {
		view := linkView{
			ID: link.ID, Provider: s.providerOf(link), Label: cleanName(link.Label), Email: cutRunes(clean(link.Email), 254),
			Since: moment{Time: link.LinkedAt}, LastUsed: moment{Time: link.LastUsedAt}, Off: s.providerOf(link).ID == "",
		}
		view.OtherEmail = link.Email != "" && v.User.Email() != "" && link.Email != v.User.Email()
		v.Links = append(v.Links, view)
	}
	v.Others = s.providers()
	for _, d := range s.config.Directories.Active() {
		if !slices.ContainsFunc(v.User.External, func(l identity.ExternalLink) bool { return l.Provider == d.ID() }) {
			v.Directories = append(v.Directories, providerView{ID: d.ID(), Name: cleanName(d.Name())})
		}
	}
	a.template, a.title, a.account, a.data, a.formAction = "linked", text("linked.title"), v.User, v, s.config.Upstream.FormAction()
	return s.write(w, a)
}

// changeLinked links an account at a provider, or removes a link.
func (s *session) changeLinked(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, linkedPath); done {
		return err
	}
	if id := r.PostForm.Get("unlink"); id != "" {
		return s.unlink(w, r, id)
	}
	if at := s.config.Directories.Directory(r.PostForm.Get("directory")); at != nil {
		return s.linkDirectory(w, r, at)
	}
	provider := s.config.Upstream.Provider(r.PostForm.Get("provider"))
	if provider == nil {
		s.NotFound(w, r)
		return nil
	}
	return s.redirectUpstream(w, r, nil, provider, upstream.Start{Purpose: purposeLink, UserID: s.who.User.ID, Session: s.who.ID})
}

func (s *session) unlink(w http.ResponseWriter, r *http.Request, id string) error {
	err := s.config.Accounts.UnlinkExternal(r.Context(), time.Now(), s.who.User.ID, id, s.who, s.activity(r))
	switch {
	case errors.Is(err, identity.ErrLastMethod):
		v := linkedView{Alert: text("linked.last")}
		return s.writeLinked(w, v, pageResponse{status: http.StatusConflict})
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return err
	}
	s.server.SessionsEnded() // their clients are notified
	return s.notifyAt(w, linkedPath, "unlinked")
}

// link links the user of a provider with the account of the signed-in user.
func (s *session) link(w http.ResponseWriter, r *http.Request, result *upstream.Result, signIn identity.ExternalSignIn) error {
	if !s.who.RecentlyProved(time.Now().Add(-linkGrace)) {
		return s.upstreamFailed(w, r, result, upstream.ErrOver)
	}
	now := time.Now()
	err := s.config.Accounts.LinkExternal(r.Context(), now, s.who.User.ID, signIn, s.activity(r))
	if err != nil {
		return s.upstreamFailed(w, r, result, err)
	}
	user, err := s.config.Accounts.User(r.Context(), s.who.User.ID)
	if err != nil {
		return err
	}
	// The user has signed in at the provider, in this browser. The session there is one that a logout here
	// must end, and that ends this one when the provider ends it.
	proof, err := s.externalProof(r, now, user, result.User)
	if err != nil {
		return err
	}
	_, _, err = s.begin(w, r, now, user, identity.MergeProofs(s.who.Proofs, proof))
	if errors.Is(err, identity.ErrWrongCredentials) { // the provider has ended its session, or everything ended, at this moment
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	return s.notifyAt(w, linkedPath, "linked")
}

// linkGrace is added to the age of the proof with which a link was started: signing in at the provider
// takes time.
const linkGrace = 15 * time.Minute
