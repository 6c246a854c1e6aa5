package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/internal/database"
)

type masterKeyCommand struct {
	Rotate masterKeyRotateCommand `cmd:"" help:"Put a new master key in force, while servers run."`
	Status masterKeyStatusCommand `cmd:"" help:"Show whether the previous master key is still needed."`
}

type masterKeyRotateCommand struct {
	serverDatabase `embed:""`
	DryRun         bool `help:"Only show what would be sealed with the new key."`
}

// Help is shown by "valetkey masterkey rotate --help".
func (masterKeyRotateCommand) Help() string {
	return "The new key is the master key of the configuration, and the one in force is the previous master key " +
		"(VALETKEY_PREVIOUS_MASTER_KEY, previous_master_key_file, previous_master_key_command, or with SQLite the file valetkey.db.key.previous). " +
		"All servers on the database must have both keys before you run this command. " +
		"What was issued stays valid. If the command is interrupted, run it again. See docs/guides/operate.md.\n\n" +
		"Example: valetkey masterkey rotate --config valetkey.yaml"
}

// printedRotation is the JSON form of a rotation.
type printedRotation struct {
	// Rotated says that the new key is now in force, or would be, and was not before.
	Rotated bool `json:"rotated"`
	Secrets int  `json:"secrets"`
	Keys    int  `json:"keys"`
	Clients int  `json:"clients"`
	DryRun  bool `json:"dry_run,omitempty"`
}

// Run rotates the master key.
func (c *masterKeyRotateCommand) Run(ctx context.Context, o *output) error {
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if !store.HasPreviousMasterKey() {
		return usageError{errors.New("there is no previous master key: make the new key the master key of the configuration, and the present one the previous master key (docs/guides/operate.md)")}
	}
	var sealed database.MasterKeyState
	if c.DryRun {
		sealed, err = store.MasterKeyState(ctx)
	} else {
		sealed, err = store.RotateMasterKey(ctx, nil)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, printedRotation{sealed.Previous, sealed.Secrets, sealed.Keys, sealed.Clients, c.DryRun})
	}
	values := fmt.Sprintf("%d secrets of the server, %d signing and encryption keys, and the secrets of %d clients", sealed.Secrets, sealed.Keys, sealed.Clients)
	switch {
	case c.DryRun && sealed.NeedsPrevious():
		fmt.Fprintf(o.out, "Would be sealed with the new master key: %s.\n", values)
	case c.DryRun, !sealed.NeedsPrevious():
		fmt.Fprintln(o.out, "Nothing to do: the master key seals everything. The previous one can be removed.")
	default:
		fmt.Fprintf(o.out, "The new master key is in force. It seals %s.\n"+
			"Remove the previous key from the configuration of all servers. Keep it with the backups that were made before: they need it.\n", values)
	}
	return nil
}

type masterKeyStatusCommand struct {
	serverDatabase `embed:""`
}

// Help is shown by "valetkey masterkey status --help".
func (masterKeyStatusCommand) Help() string {
	return "Keys are not shown.\n\nExample: valetkey masterkey status --config valetkey.yaml"
}

// printedMasterKeyState is the JSON form of what seals a database.
type printedMasterKeyState struct {
	InForce string `json:"in_force"` // "master_key" or "previous_master_key"
	// Unfinished says that a rotation was interrupted.
	Unfinished bool `json:"unfinished"`
	// PreviousConfigured and PreviousNeeded are about the previous master key.
	PreviousConfigured bool `json:"previous_configured"`
	PreviousNeeded     bool `json:"previous_needed"`
	Secrets            int  `json:"secrets"`
	Keys               int  `json:"keys"`
	Clients            int  `json:"clients"`
}

// Run prints which keys the database needs.
func (c *masterKeyStatusCommand) Run(ctx context.Context, o *output) error {
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	state, err := store.MasterKeyState(ctx)
	if err != nil {
		return err
	}
	p := printedMasterKeyState{"master_key", state.Unfinished, store.HasPreviousMasterKey(), state.NeedsPrevious(), state.Secrets, state.Keys, state.Clients}
	if state.Previous {
		p.InForce = "previous_master_key"
	}
	if c.JSON {
		return printJSON(o.out, p)
	}
	switch {
	case state.Unfinished:
		fmt.Fprintln(o.out, "A rotation of the master key is not finished: run \"valetkey masterkey rotate\" again.")
	case state.Previous:
		fmt.Fprintln(o.out, "The previous master key is in force. Once all servers have both keys, run \"valetkey masterkey rotate\".")
	case p.PreviousNeeded:
		fmt.Fprintf(o.out, "The master key is in force, but the previous one still seals %d values: run \"valetkey masterkey rotate\" again.\n", state.Secrets+state.Keys+state.Clients)
	case p.PreviousConfigured:
		fmt.Fprintln(o.out, "The master key seals everything. The previous one can be removed.")
	default:
		fmt.Fprintln(o.out, "The master key seals everything.")
	}
	return nil
}
