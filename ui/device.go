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

// asking is what the consent page says of a device.
type asking struct {
	UserCode string
	When     string
	Address  string // "" if it is not known
	// Elsewhere says that the device asked from another network than the person's.
	Elsewhere bool
}

// showDevice is the page to which people bring the code that a device shows (RFC 8628,
// section 3.3). A code that came with the link is filled in, and the person must still
// press the button.
func (s *session) showDevice(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Query().Get("answer") {
	case "allowed":
		return s.write(w, answer{template: "device-done", title: "Connected", data: true})
	case "denied":
		return s.write(w, answer{template: "device-done", title: "Not connected", data: false})
	}
	return s.writeDevice(w, deviceView{UserCode: cutRunes(clean(r.URL.Query().Get("user_code")), 32)}, answer{})
}

func (s *session) writeDevice(w http.ResponseWriter, v deviceView, a answer) error {
	a.template, a.title, a.data = "device", "Connect a device", v
	return s.write(w, a)
}

func (s *session) device(w http.ResponseWriter, r *http.Request) error {
	typed := r.PostForm.Get("user_code")
	err := s.server.BeginDevice(w, r, typed)
	v := deviceView{UserCode: cutRunes(clean(typed), 32)}
	if later, ok := errors.AsType[*authserver.TryLaterError](err); ok {
		v.Alert = "Too many codes have been tried. Try again " + inTime(later.After) + "."
		if s.who == nil {
			v.Alert = "Too many codes have been tried from your network. Sign in first and then enter the code, or try again " + inTime(later.After) + "."
		}
		return s.writeDevice(w, v, answer{status: http.StatusTooManyRequests, retryAfter: later.After})
	}
	if errors.Is(err, authserver.ErrUserCode) {
		v.Alert = "No device is waiting for this code. Check it against the code on your device. If they match, get a new code on the device."
		return s.writeDevice(w, v, answer{status: http.StatusNotFound})
	}
	return err
}

// askingDevice says in words what a device asks, and from where.
func (s *session) askingDevice(r *http.Request, d *authserver.Device) *asking {
	a := &asking{UserCode: d.UserCode, When: ago(time.Since(d.Began))}
	if d.Address.IsValid() {
		a.Address = d.Address.String()
		a.Elsewhere = ratelimit.Network(d.Address) != ratelimit.Network(s.config.RemoteAddr(r))
	}
	return a
}
