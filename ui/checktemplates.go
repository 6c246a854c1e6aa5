package ui

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/valetkey/valetkey/ui/messages"
)

// pageData is the type of the data of each page.
var pageData = map[string]any{
	"account": accountView{}, "approve-done": "allowed", "confirm": confirmView{}, "confirm-email": confirmEmailView{}, "consent": consentView{},
	"delete": deleteView{}, "device": deviceView{}, "device-done": true, "done": doneView{}, "email": emailView{}, "email-code": emailView{}, "enrol": enrolView{}, "error": errorView{}, "export": struct{}{},
	"factor": factorView{}, "few-recovery-codes": fewCodesView{}, "forgot": forgotView{}, "not-me": wasntMeView{}, "passkey": confirmPasskeyView{}, "passkeys": passkeysView{}, "password": passwordView{},
	"recovery-codes": recoveryCodesView{}, "recovery-codes-new": recoveryCodesView{}, "recover": recoverView{}, "recovery": recoveryView{}, "recovery-begin": beginRecoveryView{}, "recovery-stop": stopRecoveryView{}, "recovery-pending": pendingRecoveryView{Recovery: &pendingRecovery{}}, "reset": resetView{}, "restore": deleteView{}, "select-account": selectAccountView{},
	"setup": setupView{}, "sign-in": signInView{}, "sign-in-email": emailSignInView{}, "sign-in-email-code": emailSignInView{}, "sign-in-email-link": emailSignInView{},
	"sign-in-recovery-code": proveCodeView{}, "sign-in-totp": proveCodeView{}, "sign-out": signOutView{}, "sign-up": signUpView{}, "sign-up-closed": signUpView{},
	"sign-up-email": signUpView{}, "signed-out": signedOutView{},
	"linked": linkedView{}, "upstream-error": upstreamErrorView{},
	"totp": totpView{}, "totp-new": newTOTPView{}, "upgrade": upgradeView{}, "username": usernameView{}, "undo-email": undoEmailView{}, "user-code": userCodeView{},
}

// sample is the value of texts in sample data.
const sample = "sample"

// CheckTemplates reports what is wrong with the templates in a directory: it parses them and shows
// every page with sample data, once with everything and once with as little as possible. The error has
// the name of the file and the line. "" means that there are none.
func CheckTemplates(directory string) error {
	if directory == "" {
		return nil
	}
	all := templates{directory: directory}
	for _, name := range slices.Sorted(maps.Keys(pageData)) {
		page, err := all.in(messages.English, name)
		if err != nil {
			return err
		}
		for _, full := range []bool{true, false} {
			data := reflect.New(reflect.TypeOf(pageData[name])).Elem()
			if kind := data.Kind(); kind == reflect.Struct || kind == reflect.Pointer {
				fill(data, full, 0)
			} else {
				data.Set(reflect.ValueOf(pageData[name]))
			}
			v := view{Title: messages.Plain(sample), Language: "en", Direction: "ltr", Name: sample, Host: "login.example.com", Look: &look{}, Data: data.Interface()}
			fill(reflect.ValueOf(v.Look).Elem(), full, 0)
			if err := page.ExecuteTemplate(io.Discard, "layout.html", v); err != nil {
				return fmt.Errorf("show a page with sample data: %w", err)
			}
		}
	}
	return nil
}

// fill sets the fields of a sample: with full, to a value that is not empty. What a page always has is
// set in both cases.
func fill(v reflect.Value, full bool, depth int) {
	if depth > 8 {
		return
	}
	switch v.Type() {
	case reflect.TypeFor[errorText]():
		v.Field(0).SetString("expired")
		v.Field(1).SetBool(full)
		return
	case reflect.TypeFor[*messages.Text]():
		if full {
			v.Set(reflect.ValueOf(messages.Plain(sample)))
		}
		return
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1e9, 0)))
		return
	}
	if v.Kind() == reflect.Struct { // an embedded one cannot be set, but its fields can
		for i := range v.NumField() {
			fill(v.Field(i), full, depth+1)
		}
		return
	}
	if !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if full || depth <= 1 && v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), full, depth+1)
		}
	case reflect.Slice:
		if full {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), full, depth+1)
		}
	case reflect.String:
		if full {
			v.SetString(sample)
		}
	case reflect.Bool:
		v.SetBool(full)
	case reflect.Int:
		v.SetInt(2)
	}
}
