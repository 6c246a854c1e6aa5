package ui

import (
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// Pages of recovery codes.
const (
	recoveryCodesPath = "/account/recovery-codes"
	// fewCodesPath is shown after a sign-in with one of the last recovery codes.
	fewCodesPath = "/sign-in/few-recovery-codes"
)

type recoveryCodesView struct {
	User *identity.User
	// Has is set if the user has a set of codes, of which Left are unused.
	Has, Few bool
	Left     int
	// Codes are new codes, which are shown once.
	Codes []string
}

// showRecoveryCodes says how many recovery codes a user has, and offers new ones.
func (s *session) showRecoveryCodes(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, recoveryCodesPath); done {
		return err
	}
	v := recoveryCodesView{User: s.who.User}
	v.Left, v.Has = s.who.User.RecoveryCodesLeft()
	v.Few = v.Left <= identity.FewRecoveryCodes
	return s.write(w, pageResponse{template: "recovery-codes", title: text("recovery-codes.title"), account: s.who.User, data: v})
}

// newRecoveryCodes replaces the recovery codes and shows the new ones.
func (s *session) newRecoveryCodes(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, recoveryCodesPath); done {
		return err
	}
	codes, err := s.config.Accounts.NewRecoveryCodes(r.Context(), time.Now(), s.who.User.ID, s.activity(r))
	if err != nil {
		return err
	}
	return s.write(w, pageResponse{template: "recovery-codes-new", title: text("recovery-codes.new.title"), account: s.who.User, data: recoveryCodesView{User: s.who.User, Codes: codes}})
}

// downloadRecoveryCodes sends the codes that a page shows back as a file. The server does not have them
// any more.
func (s *session) downloadRecoveryCodes(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	var file strings.Builder
	heading := s.language.Text(text("recovery-codes.file", "username", s.who.User.Username, "host", s.host))
	file.WriteString(heading + "\n\n")
	posted := r.PostForm["code"]
	if len(posted) > 20 {
		posted = nil
	}
	found := false
	for _, code := range posted {
		if code = identity.FormatRecoveryCode(code); code != "" {
			found = true
			file.WriteString(code + "\n")
		}
	}
	if !found {
		return s.redirect(w, recoveryCodesPath)
	}
	s.setHeaders(w.Header(), "")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="recovery-codes.txt"`)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(file.String())) // an error means that the browser has disconnected
	return nil
}

type fewCodesView struct {
	None     bool // the user has never had any
	Left     int
	New      string // URL of the page with new codes
	Continue string
}

// showFewCodes warns a user who has signed in with one of the last recovery codes, or has set up a second
// factor and has none yet, before the sign-in continues.
func (s *session) showFewCodes(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	v := fewCodesView{New: s.base + recoveryCodesPath, Continue: s.base + "/account"}
	left, has := s.who.User.RecoveryCodesLeft()
	v.Left, v.None = left, !has
	a := pageResponse{template: "few-recovery-codes", title: text("recovery-codes.few.title")}
	if v.None {
		a.title = text("recovery-codes.title")
	}
	if in != nil {
		v.Continue, a.formAction = s.server.ContinueURL(in), in.FormAction
	}
	a.data = v
	return s.write(w, a)
}

func recoveryCodesRow(s *session, user *identity.User) []methodView {
	left, has := user.RecoveryCodesLeft()
	if !has && !user.Has(identity.MethodTOTP) && !user.Has(identity.MethodPasskey) {
		return nil
	}
	v := methodView{Name: text("recovery-codes.title"), Detail: text("account.recovery-codes-none"), Href: s.base + recoveryCodesPath, Action: text("account.set-up")}
	if has {
		v.Detail, v.Action = text("account.recovery-codes-left", "count", left), text("account.manage")
		if left <= identity.FewRecoveryCodes {
			v.Detail = text("account.recovery-codes-few", "count", left)
		}
	}
	return []methodView{v}
}
