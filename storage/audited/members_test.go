package audited

import (
	"reflect"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// leftOutOfUsers are the members that the audit log does not show, with the reason.
var leftOutOfUsers = map[string]string{
	"ID":         "it never changes, and is the object of the record",
	"CreatedAt":  "it never changes",
	"UpdatedAt":  "every change sets it",
	"Kept":       "it says which sessions an ended_at keeps, and is no state of the account",
	"DeclaredBy": "declarations have records of their own",
	"Forgotten":  "it is not stored",

	"Account.Events":  "they are derived from changes that have records",
	"Account.Notices": "they are messages that wait",
}

// A member that is added to a user is shown in the audit log, or left out on purpose.
func TestEveryMemberOfAUserIsShownOrLeftOut(t *testing.T) {
	check := func(prefix string, typ reflect.Type, member func(*identity.User) reflect.Value) {
		for i := range typ.NumField() {
			name := prefix + typ.Field(i).Name
			if name == "Account" { // its members follow
				continue
			}
			before, after := &identity.User{ID: "u", Username: "ada"}, &identity.User{ID: "u", Username: "ada"}
			if !fill(member(after).Field(i)) {
				t.Errorf("%s: the test cannot set a %v", name, typ.Field(i).Type)
				continue
			}
			shown := User(before, after) != nil
			switch {
			case shown && leftOutOfUsers[name] != "":
				t.Errorf("%s is shown, although it is left out: %s", name, leftOutOfUsers[name])
			case !shown && leftOutOfUsers[name] == "":
				t.Errorf("%s is neither shown in the audit log nor left out on purpose", name)
			}
		}
	}
	check("", reflect.TypeFor[identity.User](), func(u *identity.User) reflect.Value { return reflect.ValueOf(u).Elem() })
	check("Account.", reflect.TypeFor[identity.AccountData](), func(u *identity.User) reflect.Value { return reflect.ValueOf(&u.Account).Elem() })
}

// fill sets a value that is not zero, also in its members, and reports whether it could.
func fill(v reflect.Value) bool {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)))
		return true
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("changed")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem())
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if !fill(key) || !fill(value) {
			return false
		}
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf("changed"))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && !fill(v.Field(i)) {
				return false
			}
		}
	default:
		return v.Kind() == reflect.Array // addresses and the like
	}
	return true
}
