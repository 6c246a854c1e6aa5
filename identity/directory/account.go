package directory

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity"
)

// accountAttributes say whether a directory lets a user in: of Active Directory, of OpenLDAP's password
// policy, of shadow accounts (RFC 2307), and of 389 Directory Server and FreeIPA.
var accountAttributes = []string{
	"userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet",
	"pwdAccountLockedTime", "pwdReset", "shadowExpire", "nsAccountLock",
}

// Bits of userAccountControl ([MS-ADTS], section 2.2.16) and of its computed part.
const (
	accountDisabled = 0x2
	lockedOut       = 0x10
	passwordNever   = 0x10000
	passwordExpired = 0x800000
)

// lockedByAdministrator is the pwdAccountLockedTime of an account that only an administrator unlocks
// (draft-behera-ldap-password-policy, section 5.3.3). Wrong passwords set a time.
const lockedByAdministrator = "000001010000Z"

// accountRefusal returns why the entry of a user does not let them in; "" if it does.
func accountRefusal(e *ldap.Entry, now time.Time) identity.DirectoryReason {
	number := func(attribute string) int64 {
		n, err := strconv.ParseInt(e.GetEqualFoldAttributeValue(attribute), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	is := func(attribute string) bool { return strings.EqualFold(e.GetEqualFoldAttributeValue(attribute), "TRUE") }
	lockedTime := e.GetEqualFoldAttributeValue("pwdAccountLockedTime")
	flags := number("userAccountControl") | number("msDS-User-Account-Control-Computed")
	switch {
	case flags&accountDisabled != 0, is("nsAccountLock"), lockedTime == lockedByAdministrator:
		return identity.DirectoryDisabled
	case expired(number("accountExpires"), now):
		return identity.DirectoryExpired
	}
	if days := number("shadowExpire"); days > 0 && now.Unix()/86400 >= days { // since 1970; shadow(5)
		return identity.DirectoryExpired
	}
	// This comes last: strangers can cause it, and it does not end sessions (Directory.refused).
	if flags&lockedOut != 0 || lockedTime != "" {
		return identity.DirectoryLocked
	}
	mustChange := e.GetEqualFoldAttributeValue("pwdLastSet") == "0" && flags&passwordNever == 0
	if flags&passwordExpired != 0 || is("pwdReset") || mustChange {
		return identity.DirectoryPasswordExpired
	}
	return ""
}

// expired reports whether accountExpires has passed: 100 nanoseconds since 1601. 0 and the largest value
// mean never ([MS-ADA1], section 2.1).
func expired(ticks int64, now time.Time) bool {
	const (
		never      = 1<<63 - 1
		from1601   = 11644473600
		tickPerSec = 10_000_000
	)
	return ticks > 0 && ticks != never && ticks/tickPerSec-from1601 <= now.Unix()
}

// subCode finds the reason of Active Directory in the message of a refused bind.
var subCode = compiled(`\bdata ([0-9a-f]{3})\b`)

// bindRefusal returns why a bind was refused; nil if it was not, or if the directory did not respond.
func bindRefusal(err error, controls []ldap.Control) error {
	for _, control := range controls {
		policy, ok := control.(*ldap.ControlBeheraPasswordPolicy)
		if !ok {
			continue
		}
		switch policy.Error { // Password Policy for LDAP Directories (draft-behera-ldap-password-policy), section 6.2
		case 0, 2: // passwordExpired, changeAfterReset
			return &identity.DirectoryRefusedError{Reason: identity.DirectoryPasswordExpired}
		case 1:
			return &identity.DirectoryRefusedError{Reason: identity.DirectoryLocked}
		}
	}
	refused, ok := errors.AsType[*ldap.Error](err)
	if !ok {
		return nil
	}
	switch refused.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
	case ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInappropriateAuthentication,
		ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultReferral, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultConstraintViolation:
		return identity.ErrWrongCredentials
	default:
		return nil
	}
	reasons := map[string]identity.DirectoryReason{
		"533": identity.DirectoryDisabled, "701": identity.DirectoryExpired, "775": identity.DirectoryLocked,
		"532": identity.DirectoryPasswordExpired, "773": identity.DirectoryPasswordExpired,
		"530": identity.DirectoryDisabled, "531": identity.DirectoryDisabled, // not at this time, or not from here
	}
	if code := subCode().FindStringSubmatch(messageOf(refused)); code != nil && reasons[code[1]] != "" {
		return &identity.DirectoryRefusedError{Reason: reasons[code[1]]}
	}
	return identity.ErrWrongCredentials
}

func messageOf(e *ldap.Error) string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}
