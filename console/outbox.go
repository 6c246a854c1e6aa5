package console

import (
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/manage/api"
)

// The outboxes of the management API.
var outboxes = [...]struct{ name, title string }{{"users", "Mail to users"}, {"clients", "Messages to clients"}, {"events", "Audit records for webhooks"}}

// outboxTitle returns the title of an outbox.
func outboxTitle(name string) string {
	for _, box := range outboxes {
		if box.name == name {
			return box.title
		}
	}
	return name
}

type outboxView struct {
	Boxes     []outboxBox
	MayChange bool
}

type outboxBox struct {
	Name, Title     string
	Waiting, Failed []api.Message
	// More is set if there are more messages than those shown.
	More bool
}

func (v *visit) showOutbox(w http.ResponseWriter, r *http.Request) error {
	view := outboxView{MayChange: v.may(api.OutboxWrite)}
	for _, box := range outboxes {
		waiting, err := v.api.Messages(r.Context(), box.name, api.List{Limit: 100})
		if err != nil {
			return err
		}
		failed, err := v.api.Messages(r.Context(), box.name, api.List{Limit: 100, Filter: url.Values{"failed": {"true"}}})
		if err != nil {
			return err
		}
		view.Boxes = append(view.Boxes, outboxBox{box.name, box.title, waiting.Messages, failed.Messages, waiting.Next != "" || failed.Next != ""})
	}
	return v.write(w, http.StatusOK, "outbox", "Messages", view)
}

func (v *visit) retryMessage(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.RetryMessage(r.Context(), r.PostForm.Get("outbox"), r.PostForm.Get("id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/messages", "message-retried")
}

func (v *visit) dropMessage(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.DropMessage(r.Context(), r.PostForm.Get("outbox"), r.PostForm.Get("id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/messages", "message-dropped")
}
