package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

type sessionsCommand struct {
	List sessionsListCommand `cmd:"" help:"List where a user is signed in."`
	End  sessionsEndCommand  `cmd:"" help:"End a session of a user, or all of them with every token."`
}

// sessionView is a session as JSON.
type sessionView struct {
	ID        string    `json:"id"`
	AuthTime  time.Time `json:"auth_time"`
	AMR       []string  `json:"amr"`
	UserAgent string    `json:"user_agent,omitempty"`
	Address   string    `json:"address,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
}

type sessionsListCommand struct {
	oneUser `embed:""`
}

// Help is shown by "valetkey sessions list --help".
func (sessionsListCommand) Help() string { return "Example: valetkey sessions list ada" }

// Run lists the sessions of a user.
func (c *sessionsListCommand) Run(ctx context.Context, o *output) error {
	views := []sessionView{}
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		list, err := connection.UserSessions(ctx, user.ID)
		if err != nil {
			return err
		}
		for _, s := range list.Sessions {
			views = append(views, sessionView{s.ID, s.AuthTime, s.AMR, s.UserAgent, s.Address, s.ExpiresAt})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !done {
		if views, err = c.stored(ctx); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(o.out, views)
	}
	if len(views) == 0 {
		fmt.Fprintln(o.out, "The user is signed in nowhere.")
		return nil
	}
	table := newTable(o.out, "ID", "SIGNED IN", "HOW", "ADDRESS", "BROWSER")
	for _, v := range views {
		table.row(v.ID, v.AuthTime.Format(time.RFC3339), strings.Join(v.AMR, " "), v.Address, v.UserAgent)
	}
	return table.Flush()
}

func (c *sessionsListCommand) stored(ctx context.Context) ([]sessionView, error) {
	store, user, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	sessions, err := useradmin.Sessions(ctx, store.Store, user.ID)
	if err != nil {
		return nil, err
	}
	views := []sessionView{}
	for i := range sessions {
		s := &sessions[i]
		v := sessionView{ID: s.ID, AuthTime: s.AuthTime.UTC(), AMR: s.AMR, UserAgent: s.UserAgent, ExpiresAt: s.Expires.UTC()}
		if s.Remote.IsValid() {
			v.Address = s.Remote.String()
		}
		views = append(views, v)
	}
	return views, nil
}

type sessionsEndCommand struct {
	oneUser `embed:""`
	ID      string `arg:"" optional:"" help:"The id of the session, from \"valetkey sessions list\"."`
	All     bool   `help:"End every session, code and token of the user. What the user has allowed applications stays."`
}

// Help is shown by "valetkey sessions end --help".
func (sessionsEndCommand) Help() string {
	return "Examples:\n  valetkey sessions end ada 4dUo0cVgO6cLxG1LqRfKpw\n  valetkey sessions end ada --all"
}

// Run ends sessions.
func (c *sessionsEndCommand) Run(ctx context.Context, o *output) error {
	if (c.ID == "") != c.All {
		return usageError{errors.New("pass the id of a session, or --all")}
	}
	action, text := "session_ended", "is signed out of this session."
	if c.All {
		action, text = "ended", "is signed out everywhere, and all tokens have ended."
	}
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		var err error
		if c.All {
			err = connection.EndUser(ctx, user.ID, newChange())
		} else {
			err = connection.EndUserSession(ctx, user.ID, c.ID, newChange())
		}
		if err != nil {
			return err
		}
		return c.printAction(o, user, action, text)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if c.All {
		err = useradmin.EndAll(ctx, store.Store, user.ID)
	} else {
		err = useradmin.EndSession(ctx, store.Store, user.ID, c.ID)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return usageError{fmt.Errorf("%s has no such session: \"valetkey sessions list %[1]s\" lists them", user.Username)}
	}
	if err != nil {
		return err
	}
	return c.printAction(o, &api.User{ID: user.ID, Username: user.Username}, action, text)
}
