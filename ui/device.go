package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/ui/messages"
)

const devicePath = "/device"

type deviceView struct {
	UserCode string
	Alert    *messages.Text
}

// deviceRequest is what the consent page shows about a device.
type deviceRequest struct {
	UserCode string
	When     *messages.Text
	Address  string // "" if unknown
	// Elsewhere is set if the request came from another network than the user's.
	Elsewhere bool
}

// showDevice shows the page where the user enters a device's code (RFC 8628, section 3.3). A
// code in the link is filled in, but the user must still submit it.
func (s *session) showDevice(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Query().Get("answer") {
	case "allowed":
		return s.write(w, pageResponse{template: "device-done", title: text("device.allowed.short"), data: true})
	case "denied":
		return s.write(w, pageResponse{template: "device-done", title: text("device.denied.short"), data: false})
	}
	return s.writeDevice(w, deviceView{UserCode: cutRunes(clean(r.URL.Query().Get("user_code")), 32)}, pageResponse{})
}

func (s *session) writeDevice(w http.ResponseWriter, v deviceView, a pageResponse) error {
	a.template, a.title, a.data = "device", text("device.title"), v
	return s.write(w, a)
}

func (s *session) device(w http.ResponseWriter, r *http.Request) error {
	typed := r.PostForm.Get("user_code")
	err := s.server.BeginDevice(w, r, typed)
	v := deviceView{UserCode: cutRunes(clean(typed), 32)}
	if later, ok := errors.AsType[*authserver.TryLaterError](err); ok {
		v.Alert = text("alert.too-many-attempts", "wait", inTime(later.After))
		if s.who == nil {
			v.Alert = text("alert.too-many-attempts-network", "wait", inTime(later.After))
		}
		return s.writeDevice(w, v, pageResponse{status: http.StatusTooManyRequests, retryAfter: later.After})
	}
	if errors.Is(err, authserver.ErrUserCode) {
		v.Alert = text("device.wrong")
		return s.writeDevice(w, v, pageResponse{status: http.StatusNotFound})
	}
	return err
}

func (s *session) deviceRequest(r *http.Request, d *authserver.Device) *deviceRequest {
	a := &deviceRequest{UserCode: d.UserCode, When: ago(time.Since(d.Began))}
	if d.Address.IsValid() {
		a.Address = d.Address.String()
		a.Elsewhere = ratelimit.Network(d.Address) != ratelimit.Network(s.config.RemoteAddr(r))
	}
	return a
}
