package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

// clientGrant is a grant with the name of the user who gave it.
type clientGrant struct {
	api.Grant
	Username string
}

// usesSecret reports whether a client authenticates with a secret.
func usesSecret(client *api.Client) bool {
	return slices.Contains([]string{"", oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost, oauth.AuthMethodClientSecretJWT}, client.TokenEndpointAuthMethod)
}

// grantsOf returns the latest page of what users have allowed a client, with their names. A user who was
// deleted meanwhile is shown with the sub.
func (v *visit) grantsOf(ctx context.Context, clientID string, list api.List) (grants []clientGrant, next string, err error) {
	page, err := v.api.ClientGrants(ctx, clientID, list)
	if err != nil {
		return nil, "", err
	}
	for _, grant := range page.Grants {
		shown := clientGrant{grant, grant.Subject}
		user, err := v.api.User(ctx, grant.Subject)
		if err == nil {
			shown.Username = user.Username
		} else if status := api.StatusOf(err); status != http.StatusNotFound && status != http.StatusForbidden {
			return nil, "", err
		}
		grants = append(grants, shown)
	}
	return grants, page.Next, nil
}

// addClientSecret shows a second secret once. Both are valid until the older one is removed.
func (v *visit) addClientSecret(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	secret, err := v.api.AddClientSecret(r.Context(), id, r.PostForm.Get("etag"), api.Change{})
	if err != nil {
		return err
	}
	client, err := v.api.Client(r.Context(), id)
	if err != nil {
		return err
	}
	return v.writeClient(w, r, client, secret.Secret)
}

func (v *visit) showRemoveClientSecret(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: client.ID, ETag: client.ETag, Title: "Remove the older secret of " + isolated(nameOf(client)) + "?", Cancel: v.base + at("/client", client.ID), Button: "Remove the older secret",
		Text: "From now on, only the newer secret is accepted. Check first that the application uses it. What was issued to the client stays valid.",
	})
}

func (v *visit) removeClientSecret(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if _, err := v.api.RemoveOldClientSecret(r.Context(), id, r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/client", id), "secret-removed")
}

func (v *visit) showEndClient(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: client.ID, ETag: client.ETag, Title: "End everything that was issued to " + isolated(nameOf(client)) + "?", Cancel: v.base + at("/client", client.ID), Button: "End every code and token",
		Text: "Every code and token of this client ends, for all users. The client itself, its secret and what users have allowed it remain, so users can sign in again. A JWT that an API checks by itself is accepted there until it expires.",
	})
}

func (v *visit) endClient(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if _, err := v.api.EndClient(r.Context(), id, r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/client", id), "client-ended")
}

func (v *visit) revokeClientGrant(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.DeleteGrant(r.Context(), r.PostForm.Get("sub"), id, api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/client", id), "client-grant-revoked")
}

func (v *visit) endClientToken(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.EndToken(r.Context(), r.PostForm.Get("token"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/client", id), "token-ended")
}

// secretsText says how many secrets a client has.
func secretsText(client *api.Client) string {
	switch {
	case client.TokenEndpointAuthMethod == oauth.AuthMethodNone && client.Secrets == 0:
		return "None: everybody can read what the application contains, so it does not authenticate"
	case !usesSecret(client) && client.Secrets == 0:
		return "None: it authenticates with " + client.TokenEndpointAuthMethod
	case client.Secrets == 1:
		return "One"
	case client.Secrets == 2:
		return "Two, while the application changes to the newer one"
	}
	return strconv.Itoa(client.Secrets)
}

// fillClient adds to the page of a client what the user may see and do there.
func (v *visit) fillClient(ctx context.Context, view *clientView, cursor string) (err error) {
	view.SecretsText = secretsText(view.Client)
	view.MayAddSecret = view.MayChange && usesSecret(view.Client) && view.Secrets < 2
	view.MayRemoveSecret = view.MayChange && view.Secrets > 1
	view.MayEnd, view.MayRevoke = v.may(api.SessionsWrite), v.may(api.GrantsWrite)
	view.MaySeeGrants, view.MaySeeTokens = v.may(api.GrantsRead), v.may(api.SessionsRead)
	view.MaySeeRefusals = v.may(api.ExplanationsRead)
	view.Waiting = waiting(view.ClientMembers)
	view.MayWait = view.MayChange && view.MaySeeRefusals && isWeb(view.ClientMembers)
	if view.MaySeeGrants {
		list := api.List{Limit: 20, Cursor: cursor}
		next := ""
		if view.Grants, next, err = v.grantsOf(ctx, view.ID, list); err != nil {
			return fmt.Errorf("read the grants of the client %q: %w", view.ID, err)
		}
		if next != "" {
			view.NextGrants = v.base + at("/client", view.ID) + "&cursor=" + next
		}
	}
	if view.MaySeeTokens {
		tokens, err := v.api.ClientTokens(ctx, view.ID)
		if err != nil {
			return fmt.Errorf("read the tokens of the client %q: %w", view.ID, err)
		}
		view.Tokens = tokens.Tokens
	}
	return nil
}
