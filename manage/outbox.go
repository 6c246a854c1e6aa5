package manage

import (
	"context"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

// Outbox is the path parameter of an outbox.
type Outbox struct {
	Outbox string `path:"outbox" enum:"clients,users,events" doc:"clients: messages to clients, such as logout tokens; users: mail; events: audit records for webhooks"`
}

func (a *API) registerOutbox() {
	register(a, api.OutboxRead, operation{id: "list-messages", method: http.MethodGet, path: "/outbox/{outbox}", summary: "List messages that wait to be sent, or that were given up"}, a.listMessages)
	register(a, api.OutboxWrite, operation{id: "retry-message", method: http.MethodPost, path: "/outbox/{outbox}/{id}/retry", summary: "Send a message now, also one that was given up"}, a.retryMessage)
	register(a, api.OutboxWrite, operation{id: "drop-message", method: http.MethodDelete, path: "/outbox/{outbox}/{id}", summary: "Drop a message"}, a.dropMessage)
}

type listMessagesInput struct {
	Outbox
	List
	Failed bool `query:"failed" doc:"Messages that were given up, instead of those that wait. They are kept for a week"`
}

type listMessagesOutput struct{ Body api.MessagePage }

func (a *API) listMessages(ctx context.Context, _ *principal, in *listMessagesInput) (*listMessagesOutput, error) {
	all := func(*storage.FailedMessage) bool { return true }
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]storage.FailedMessage, error) {
			if in.Failed {
				return a.config.Store.FailedMessages(ctx, in.Outbox.Outbox, after, limit)
			}
			waiting, err := a.config.Store.WaitingMessages(ctx, in.Outbox.Outbox, after, limit)
			messages := make([]storage.FailedMessage, len(waiting))
			for i := range waiting {
				messages[i].Message = waiting[i]
			}
			return messages, err
		},
		func(m *storage.FailedMessage) string { return m.ID }, all)
	if err != nil {
		return nil, err
	}
	page := api.MessagePage{Messages: make([]api.Message, len(found)), Page: api.Page{Next: next}}
	for i := range found {
		m := &found[i]
		page.Messages[i] = api.Message{ID: m.ID, Outbox: in.Outbox.Outbox, Receiver: m.Owner, CreatedAt: m.Created.UTC(), DueAt: optionalTime(m.Due), Attempts: m.Attempts,
			FailedAt: optionalTime(m.Failed), Cause: m.Cause}
	}
	return &listMessagesOutput{page}, nil
}

type messageInput struct {
	Outbox
	Change
	ID string `path:"id" maxLength:"255"`
}

func (a *API) retryMessage(ctx context.Context, _ *principal, in *messageInput) (*struct{}, error) {
	return nil, a.config.Store.ChangeMessage(ctx, time.Now(), in.Outbox.Outbox, in.ID, false, in.DryRun)
}

func (a *API) dropMessage(ctx context.Context, _ *principal, in *messageInput) (*struct{}, error) {
	return nil, a.config.Store.ChangeMessage(ctx, time.Now(), in.Outbox.Outbox, in.ID, true, in.DryRun)
}
