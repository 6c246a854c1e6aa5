package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage/record"
)

type keysCommand struct {
	List   keysListCommand   `cmd:"" help:"List the signing keys, and when they sign and expire."`
	Rotate keysRotateCommand `cmd:"" help:"Replace the signing keys early."`
}

type keysListCommand struct {
	target `embed:""`
}

// Help is shown by "valetkey keys list --help".
func (keysListCommand) Help() string {
	return "Private keys are not shown.\n\nExample: valetkey keys list --database sqlite:valetkey.db"
}

// Run prints the keys.
func (c *keysListCommand) Run(ctx context.Context, o *output) error {
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		list, err := connection.Keys(ctx)
		if err != nil {
			return err
		}
		return printKeyList(o, c.JSON, keysOfServer(list))
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	keys, err := store.Keys(ctx)
	if err != nil {
		return err
	}
	return printKeys(o, c.JSON, keys)
}

type keysRotateCommand struct {
	target    `embed:""`
	Algorithm string `help:"Rotate only the key of this algorithm (for example, ES256)." placeholder:"ALG"`
	Now       bool   `help:"Sign with the new keys immediately, instead of publishing them for a day first (key_publish_ahead)."`
	Revoke    bool   `help:"Remove the old keys immediately: everything that they signed becomes invalid. Implies --now."`
}

// Help is shown by "valetkey keys rotate --help".
func (keysRotateCommand) Help() string {
	return "Keys rotate automatically every 90 days (key_rotation). This command rotates them early, for all algorithms " +
		"in use or for one. A running server uses the new keys within a second. If a private key has leaked, pass --revoke.\n\n" +
		"Example: valetkey keys rotate --now --database sqlite:valetkey.db"
}

// Run creates the new keys.
func (c *keysRotateCommand) Run(ctx context.Context, o *output) error {
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		list, err := connection.RotateKeys(ctx, api.Rotation{Algorithm: c.Algorithm, Now: c.Now || c.Revoke, Revoke: c.Revoke}, newChange())
		if err != nil {
			return err
		}
		if c.Revoke {
			fmt.Fprint(o.log, revokedKeysWarning)
		}
		return printKeyList(o, c.JSON, keysOfServer(list))
	}
	store, config, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	added, err := authserver.RotateKeys(ctx, store, time.Now(), authserver.KeyRotation{
		Algorithm: c.Algorithm,
		Now:       c.Now,
		Revoke:    c.Revoke,
		Lifetimes: config.Lifetimes.Engine(),
	})
	if errors.Is(err, authserver.ErrKeyAlgorithm) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	for _, key := range added {
		if err := leaveEvent(ctx, store, event.SigningKeyCreated, slog.String("kid", key.ID), slog.String("alg", string(key.Algorithm))); err != nil {
			return err
		}
	}
	if c.Revoke {
		if err := leaveEvent(ctx, store, event.SigningKeysRevoked); err != nil {
			return err
		}
		fmt.Fprint(o.log, revokedKeysWarning)
	}
	return printKeys(o, c.JSON, added)
}

const revokedKeysWarning = "warning: the old keys were removed. Access tokens and ID tokens that they signed are now invalid,\n" +
	"but an API may accept them until it reloads the key set. Clients must refresh, or users sign in again.\n"

// keysOfServer returns the keys that the API shows.
func keysOfServer(list *api.KeyList) []printedKey {
	printed := make([]printedKey, 0, len(list.Keys))
	for _, key := range list.Keys {
		k := printedKey{ID: key.ID, Algorithm: key.Algorithm, State: "published", CreatedAt: key.CreatedAt, SignsFrom: key.SignsFrom}
		switch {
		case key.Use == "enc":
			k.State = "decrypts"
		case key.Status == "published":
			k.State = "next"
		case key.Status == "active":
			k.State = "signs"
		}
		k.External, k.Failing = key.External, key.Failing
		if key.PublishedUntil != nil {
			k.PublishedUntil = *key.PublishedUntil
		}
		printed = append(printed, k)
	}
	slices.SortFunc(printed, func(a, b printedKey) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), b.SignsFrom.Compare(a.SignsFrom))
	})
	return printed
}

// printedKey is the JSON form of a key.
type printedKey struct {
	ID             string    `json:"kid"`
	Algorithm      string    `json:"alg"`
	State          string    `json:"state"`
	CreatedAt      time.Time `json:"created_at"`
	SignsFrom      time.Time `json:"signs_from"`
	PublishedUntil time.Time `json:"published_until,omitzero"`
	External       bool      `json:"external,omitempty"`
	Failing        bool      `json:"failing,omitempty"`
}

func printKeys(o *output, asJSON bool, keys []record.Key) error {
	slices.SortFunc(keys, func(a, b record.Key) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), b.SignsFrom.Compare(a.SignsFrom))
	})
	now := time.Now()
	printed := make([]printedKey, 0, len(keys))
	signing := map[string]bool{}
	for _, key := range keys {
		k := printedKey{key.ID, string(key.Algorithm), "published", key.CreatedAt.UTC(), key.SignsFrom.UTC(), key.PublishedUntil.UTC(), false, false}
		if key.SignsFrom.After(now) {
			k.State = "next"
		} else if key.Decrypts() {
			k.State = "decrypts"
		} else if !signing[k.Algorithm] {
			k.State, signing[k.Algorithm] = "signs", true
		}
		printed = append(printed, k)
	}
	return printKeyList(o, asJSON, printed)
}

func printKeyList(o *output, asJSON bool, printed []printedKey) error {
	if asJSON {
		return printJSON(o.out, printed)
	}
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ALG\tKID\tSTATE\tSIGNS FROM\tPUBLISHED UNTIL")
	for _, k := range printed {
		until := "-"
		if !k.PublishedUntil.IsZero() {
			until = k.PublishedUntil.Format(time.RFC3339)
		}
		if k.External {
			k.State += ", external"
		}
		if k.Failing {
			k.State += ", fails"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Algorithm, k.ID, k.State, k.SignsFrom.Format(time.RFC3339), until)
	}
	return w.Flush()
}
