package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/ratelimit"
)

const devicePath = "/device"

type deviceView struct {
	UserCode string
	Alert    string
}

// deviceRequest is what the consent page shows about a device.
type deviceRequest struct {
	UserCode string
	When     string
	Address  string // "" if unknown
	// Elsewhere is set if the request came from another network than the user's.
	Elsewhere bool
}

// showDevice shows the page where the user enters a device's code (RFC 8628, section 3.3). A
// code in the link is filled in, but the user must still submit it.
func (s *session) showDevice(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Query().Get("answer") {
	case "allowed":
		return s.write(w, pageResponse{template: "device-done", title: "Connected", data: true})
	case "denied":
		return s.write(w, pageResponse{template: "device-done", title: "Not connected", data: false})
	}
	return s.writeDevice(w, deviceView{UserCode: cutRunes(clean(r.URL.Query().Get("user_code")), 32)}, pageResponse{})
}

func (s *session) writeDevice(w http.ResponseWriter, v deviceView, a pageResponse) error {
	a.template, a.title, a.data = "device", "Connect a device", v
	return s.write(w, a)
}

func (s *session) device(w http.ResponseWriter, r *http.Request) error {
	typed := r.PostForm.Get("user_code")
	err := s.server.BeginDevice(w, r, typed)
	v := deviceView{UserCode: cutRunes(clean(typed), 32)}
	if later, ok := errors.AsType[*authserver.TryLaterError](err); ok {
		v.Alert = "Too many attempts. Try again " + inTime(later.After) + "."
		if s.who == nil {
			v.Alert = "Too many attempts from your network. Sign in before you enter the code, or try again " + inTime(later.After) + "."
		}
		return s.writeDevice(w, v, pageResponse{status: http.StatusTooManyRequests, retryAfter: later.After})
	}
	if errors.Is(err, authserver.ErrUserCode) {
		v.Alert = "This code is not valid or has expired. Compare it with the code on your device. If they match, request a new code there."
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
