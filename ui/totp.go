package ui

import (
	"errors"
	"fmt"
	"html/template"
	"image/color"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/deviceqr"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

// Pages of authenticator applications (TOTP).
const (
	totpPath    = "/account/totp"
	newTOTPPath = totpPath + "/new"
)

type totpView struct {
	User   *identity.User
	Notice *messages.Text
	Apps   []authenticatorView
	// New is the URL of the page that adds one; "" if the user has as many as are allowed.
	New string
}

type authenticatorView struct {
	ID, Name        string
	Added, LastUsed moment
	Rename          bool // shows a form for the name
}

// showTOTP lists the authenticator applications of a user.
func (s *session) showTOTP(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, totpPath); done {
		return err
	}
	user := s.who.User
	v := totpView{User: user, Notice: s.notice(w, r), Apps: authenticatorsOf(user, identity.MethodTOTP)}
	for i := range v.Apps {
		v.Apps[i].Rename = v.Apps[i].ID == r.URL.Query().Get("rename")
	}
	if user.CanAddTOTP() {
		v.New = s.base + newTOTPPath
	}
	return s.write(w, pageResponse{template: "totp", title: text("totp.title"), account: user, data: v})
}

func authenticatorsOf(user *identity.User, method identity.Method) []authenticatorView {
	var views []authenticatorView
	for _, a := range user.Authenticators {
		if a.Kind == method {
			views = append(views, authenticatorView{ID: a.ID, Name: a.Name, Added: moment{Time: a.CreatedAt}, LastUsed: moment{Time: a.LastUsedAt}})
		}
	}
	return views
}

// removeTOTP removes an authenticator application.
func (s *session) removeTOTP(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, totpPath); done {
		return err
	}
	id := r.PostForm.Get("authenticator")
	if a := s.who.User.Authenticator(id); a != nil && a.Kind == identity.MethodTOTP {
		if err := s.config.Accounts.RemoveAuthenticator(r.Context(), time.Now(), s.who.User.ID, id, s.activity(r)); err != nil {
			return err
		}
	}
	return s.notify(w, "totp-removed")
}

// renameTOTP changes the name of an authenticator application.
func (s *session) renameTOTP(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, totpPath); done {
		return err
	}
	name := cutRunes(clean(r.PostForm.Get("name")), maxAuthenticatorName)
	id := r.PostForm.Get("authenticator")
	if a := s.who.User.Authenticator(id); name != "" && a != nil && a.Kind == identity.MethodTOTP {
		err := s.config.Accounts.UpdateAuthenticator(r.Context(), s.who.User.ID, id, func(a *identity.Authenticator) error {
			a.Name = name
			return nil
		})
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	return s.redirect(w, totpPath)
}

// maxAuthenticatorName is the longest name of an authenticator.
const maxAuthenticatorName = 40

type newTOTPView struct {
	User   *identity.User
	Alert  *messages.Text
	Name   string
	Sealed string
	// Secret is in groups of four characters.
	Secret string
	// App is a URL that opens an application on this device.
	App template.URL
	QR  qrCode
}

// qrCode is a QR code as the path of an SVG of Size units. It is always black on white, because many
// applications do not read an inverted one.
type qrCode struct {
	Size int
	Path string
}

// showNewTOTP shows the secret of a new authenticator application. Nothing is stored: the page contains
// the secret, sealed, until a code confirms it.
func (s *session) showNewTOTP(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, newTOTPPath); done {
		return err
	}
	if !s.who.User.CanAddTOTP() {
		return s.redirect(w, totpPath)
	}
	e, err := s.config.Accounts.EnrolTOTP(time.Now(), s.who.User, s.config.Name)
	if err != nil {
		return err
	}
	return s.writeNewTOTP(w, e, newTOTPView{}, pageResponse{})
}

func (s *session) writeNewTOTP(w http.ResponseWriter, e *identity.Enrolment, v newTOTPView, a pageResponse) error {
	var err error
	if v.QR, err = drawQR(e.URI); err != nil {
		return err
	}
	v.User, v.Sealed, v.App = s.who.User, e.Sealed, template.URL(e.URI)
	v.Secret = inGroups(e.Secret)
	a.template, a.title, a.account, a.data = "totp-new", text("totp.new.title"), s.who.User, v
	return s.write(w, a)
}

// inGroups separates groups of four characters.
func inGroups(s string) string {
	var groups []string
	for group := range slices.Chunk([]byte(s), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

func drawQR(text string) (qrCode, error) {
	code, err := deviceqr.Encode(text)
	if err != nil {
		return qrCode{}, fmt.Errorf("draw a QR code: %w", err)
	}
	size := code.Bounds().Dx()
	dark := func(x, y int) bool {
		return x < size && color.GrayModel.Convert(code.At(x, y)).(color.Gray).Y < 128
	}
	var path strings.Builder
	for y := range code.Bounds().Dy() {
		for x := 0; x < size; x++ {
			length := 0
			for dark(x+length, y) {
				length++
			}
			if length > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x, y, length, length)
				x += length
			}
		}
	}
	return qrCode{Size: size, Path: path.String()}, nil
}

// confirmTOTP adds the authenticator application, if its code is right.
func (s *session) confirmTOTP(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, newTOTPPath); done {
		return err
	}
	now, form, user := time.Now(), r.PostForm, s.who.User
	name := cutRunes(clean(form.Get("name")), maxAuthenticatorName)
	if name == "" {
		name = "Authenticator app"
	}
	proof, err := s.config.Accounts.ConfirmTOTP(r.Context(), now, user, form.Get("sealed"), form.Get("code"), name, s.activity(r))
	switch {
	case errors.Is(err, identity.ErrWrongCode):
		e, err := s.config.Accounts.EnrolmentOf(now, user, s.config.Name, form.Get("sealed"))
		if err != nil {
			return s.redirect(w, newTOTPPath)
		}
		v := newTOTPView{Name: form.Get("name"), Alert: text("totp.new.wrong")}
		return s.writeNewTOTP(w, e, v, pageResponse{status: http.StatusForbidden})
	case errors.Is(err, identity.ErrEnrolmentOver), errors.Is(err, identity.ErrTooManyAuthenticators):
		return s.redirect(w, totpPath)
	case err != nil:
		return err
	}
	// The session has two factors now, which the next page requires.
	s.then = totpPath
	if _, has := user.RecoveryCodesLeft(); !has {
		s.then = recoveryCodesPath
	}
	return s.proved(w, r, nil, user, proof)
}

func totpRow(s *session, user *identity.User) []methodView {
	v := methodView{Name: text("method.totp"), Detail: text("account.totp-none"), Href: s.base + newTOTPPath, Action: text("account.set-up")}
	if apps := authenticatorsOf(user, identity.MethodTOTP); len(apps) > 0 {
		var names []string
		for _, app := range apps {
			names = append(names, app.Name)
			if app.LastUsed.After(v.LastUsed.Time) {
				v.LastUsed = app.LastUsed
			}
		}
		v.Detail, v.Href, v.Action, v.Added = text("account.names", "names", strings.Join(names, ", ")), s.base+totpPath, text("account.manage"), apps[0].Added
	}
	return []methodView{v}
}
