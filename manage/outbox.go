package manage

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

// The outboxes, by their names in the API.
const (
	outboxClients = "clients"
	outboxUsers   = "users"
)

// Outbox is the path parameter of an outbox.
type Outbox struct {
	Outbox string `path:"outbox" enum:"clients,users" doc:"clients: messages to clients, such as logout tokens; users: mail"`
}

func (a *API) registerOutbox() {
	register(a, api.OutboxRead, operation{id: "list-messages", method: http.MethodGet, path: "/outbox/{outbox}", summary: "List messages that wait to be sent"}, a.listMessages)
	register(a, api.OutboxWrite, operation{id: "retry-message", method: http.MethodPost, path: "/outbox/{outbox}/{id}/retry", summary: "Send a waiting message now"}, a.retryMessage)
	register(a, api.OutboxWrite, operation{id: "drop-message", method: http.MethodDelete, path: "/outbox/{outbox}/{id}", summary: "Drop a waiting message"}, a.dropMessage)
}

type listMessagesInput struct {
	Outbox
	List
	Failed bool `query:"failed" doc:"Only messages that were tried before"`
}

type listMessagesOutput struct{ Body api.MessagePage }

func (a *API) listMessages(ctx context.Context, _ *principal, in *listMessagesInput) (*listMessagesOutput, error) {
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]storage.Message, error) {
			return a.config.Store.WaitingMessages(ctx, in.Outbox.Outbox == outboxUsers, after, limit)
		},
		func(m *storage.Message) string { return m.ID },
		func(m *storage.Message) bool { return !in.Failed || m.Attempts > 0 })
	if err != nil {
		return nil, err
	}
	page := api.MessagePage{Messages: make([]api.Message, len(found)), Page: api.Page{Next: next}}
	for i := range found {
		m := &found[i]
		page.Messages[i] = api.Message{ID: m.ID, Outbox: in.Outbox.Outbox, Receiver: m.Owner, CreatedAt: m.Created.UTC(), DueAt: m.Due.UTC(), Attempts: m.Attempts}
	}
	return &listMessagesOutput{page}, nil
}

type messageInput struct {
	Outbox
	Change
	ID string `path:"id" maxLength:"255"`
}

func (a *API) retryMessage(ctx context.Context, _ *principal, in *messageInput) (*struct{}, error) {
	return nil, a.changeMessage(ctx, in, false)
}

func (a *API) dropMessage(ctx context.Context, _ *principal, in *messageInput) (*struct{}, error) {
	return nil, a.changeMessage(ctx, in, true)
}

func (a *API) changeMessage(ctx context.Context, in *messageInput, remove bool) error {
	err := a.config.Store.ChangeMessage(ctx, time.Now(), in.Outbox.Outbox == outboxUsers, in.ID, remove, func(*storage.Message) error {
		if in.DryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}
