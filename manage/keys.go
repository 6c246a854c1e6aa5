package manage

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

func (a *API) registerKeys() {
	register(a, api.KeysRead, operation{id: "list-keys", method: http.MethodGet, path: "/keys", summary: "List the keys of the server with their times"}, a.listKeys)
	register(a, api.KeysWrite, operation{id: "rotate-keys", method: http.MethodPost, path: "/keys", summary: "Replace keys ahead of schedule"}, a.rotateKeys)
	register(a, api.KeysWrite, operation{id: "retire-key", method: http.MethodDelete, path: "/keys/{kid}", summary: "Remove a key that was replaced, at once: nothing that it signed is valid any longer"}, a.retireKey)
}

type keysOutput struct{ Body api.KeyList }

func (a *API) listKeys(ctx context.Context, _ *principal, _ *struct{}) (*keysOutput, error) {
	keys, err := a.config.Store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	now, failing := time.Now(), a.config.Engine.FailingKeys()
	external := a.config.Engine.ExternalKeys(now)
	stored := len(keys)
	all := slices.Concat(keys, external)
	list := api.KeyList{Keys: make([]api.Key, len(all))}
	for i := range all {
		k := &all[i]
		list.Keys[i] = api.Key{ID: k.ID, Algorithm: string(k.Algorithm), Use: "sig", Status: "active",
			External: i >= stored, Failing: i >= stored && slices.Contains(failing, k.ID), CreatedAt: k.CreatedAt.UTC(), SignsFrom: k.SignsFrom.UTC(), PublishedUntil: optionalTime(k.PublishedUntil)}
		if k.Decrypts() {
			list.Keys[i].Use = "enc"
		}
		switch {
		case k.SignsFrom.After(now):
			list.Keys[i].Status = "published"
		case i < stored && a.replaced(keys, k, now), i >= stored && replacedNow(external, k, now):
			list.Keys[i].Status = "replaced"
		}
	}
	return &keysOutput{list}, nil
}

// replaced reports whether a stored key does not sign anymore.
func (a *API) replaced(keys []record.Key, key *record.Key, now time.Time) bool {
	return replacedNow(keys, key, now) || slices.ContainsFunc(a.config.Engine.ExternalKeys(now), func(external record.Key) bool {
		return external.Algorithm == key.Algorithm && !external.SignsFrom.After(now)
	})
}

// replacedNow reports whether a newer key of the same algorithm is in use.
func replacedNow(keys []record.Key, key *record.Key, now time.Time) bool {
	for i := range keys {
		other := &keys[i]
		if other.Algorithm == key.Algorithm && other.SignsFrom.After(key.SignsFrom) && !other.SignsFrom.After(now) {
			return true
		}
	}
	return false
}

type rotateKeysInput struct {
	Change
	Body api.Rotation
}

func (a *API) rotateKeys(ctx context.Context, p *principal, in *rotateKeysInput) (*keysOutput, error) {
	if in.Body.Algorithm != "" && slices.ContainsFunc(a.config.Engine.ExternalKeys(time.Now()), func(k record.Key) bool { return string(k.Algorithm) == in.Body.Algorithm }) {
		return nil, huma.Error409Conflict("the key of this algorithm is in an external signer: replace it in the program that the server is embedded in")
	}
	if !in.DryRun {
		rotation := authserver.KeyRotation{Algorithm: in.Body.Algorithm, Now: in.Body.Now, Revoke: in.Body.Revoke, Lifetimes: a.config.Lifetimes}
		added, err := authserver.RotateKeys(ctx, a.config.Store, time.Now(), rotation)
		if errors.Is(err, authserver.ErrKeyAlgorithm) {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		if err != nil {
			return nil, err
		}
		for i := range added {
			a.log.InfoContext(ctx, "key created by the management API", "kid", added[i].ID, "alg", string(added[i].Algorithm), slog.String("by", p.id()))
		}
	}
	return a.listKeys(ctx, p, nil)
}

type retireKeyInput struct {
	Change
	ID string `path:"kid" maxLength:"255"`
}

func (a *API) retireKey(ctx context.Context, _ *principal, in *retireKeyInput) (*struct{}, error) {
	now := time.Now()
	err := a.config.Store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		for i := range keys {
			if keys[i].ID != in.ID {
				continue
			}
			if !a.replaced(keys, &keys[i], now) {
				return nil, huma.Error409Conflict("the key is in use, or will be: rotate keys first, with revoke to remove it at once")
			}
			if in.DryRun {
				return nil, errDryRun
			}
			return append(keys[:i:i], keys[i+1:]...), nil
		}
		return nil, storage.ErrNotFound
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return nil, err
}
