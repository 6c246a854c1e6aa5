package identity

import (
	"slices"
	"time"
)

// Method is a way to prove who one is.
type Method string

// The methods.
const (
	MethodPassword     Method = "password"
	MethodPasskey      Method = "passkey"
	MethodTOTP         Method = "totp"
	MethodRecoveryCode Method = "recovery_code"
	MethodEmail        Method = "email"    // a code or link in a message
	MethodUpstream     Method = "upstream" // sign-in at another provider
	// MethodRemembered is a second factor that was proved on the same device some time ago.
	MethodRemembered Method = "remembered"
)

// Class is an authentication context class, the acr of OpenID Connect.
type Class string

// The classes.
const (
	ClassOneFactor  Class = "1"
	ClassTwoFactors Class = "2"
	// ClassPhishingResistant is two factors, one of which works only at the right site (OpenID Connect
	// Extended Authentication Profile ACR Values 1.0, section 2).
	ClassPhishingResistant Class = "phr"
)

// Classes are all classes, weakest first. Each one includes those before it.
var Classes = []Class{ClassOneFactor, ClassTwoFactors, ClassPhishingResistant}

// Includes reports whether what reaches c is enough for another class. "" is no class: it includes
// nothing, and every class includes it.
func (c Class) Includes(other Class) bool {
	return other == "" || slices.Index(Classes, other) >= 0 && slices.Index(Classes, c) >= slices.Index(Classes, other)
}

// stronger returns the stronger of two classes.
func stronger(a, b Class) Class {
	if a.Includes(b) {
		return a
	}
	return b
}

// methodInfo says what a method counts for.
type methodInfo struct {
	// amr are its authentication method reference values (RFC 8176, section 2). Providers may define
	// others than those of the registry, but clients know only these; a method without a value reports
	// nothing.
	amr []string
	// first is set if a sign-in may begin with the method, second if the method is a second factor next
	// to another one.
	first, second bool
	// verified is the class that the method reaches alone, if the authenticator has verified the user.
	verified Class
}

// methods is the table of methods.
var methods = map[Method]methodInfo{
	MethodPassword:     {amr: []string{"pwd"}, first: true},
	MethodPasskey:      {amr: []string{"pop"}, first: true, second: true, verified: ClassPhishingResistant},
	MethodTOTP:         {amr: []string{"otp"}, second: true},
	MethodRecoveryCode: {amr: []string{"otp"}, second: true},
	// A message reaches whoever reads the mailbox, so it is no second factor (NIST SP 800-63B-4,
	// section 3.1.3.1).
	MethodEmail:      {amr: []string{"otp"}, first: true},
	MethodUpstream:   {first: true},
	MethodRemembered: {amr: []string{}, second: true},
}

// SecondFactor reports whether a method is a second factor next to another one.
func (m Method) SecondFactor() bool { return methods[m].second }

// ProvedMethod is a method that was proved at some time.
type ProvedMethod struct {
	Method Method
	At     time.Time
	// AMR replaces the values of the method; nil if they apply. A passkey says hwk or swk, and user.
	AMR []string
	// Authenticator is the ID of the authenticator; "" if the method has none.
	Authenticator string
	// UserVerified is set if a passkey has verified the user, by a PIN or a fingerprint.
	UserVerified bool
	// Class is what another provider has reached, if the operator trusts it to say so; "" means one
	// factor.
	Class Class
}

// Reached returns the class that proofs reach together; "" if they are not enough to sign in.
func Reached(proofs []ProvedMethod) Class {
	var reached Class
	for i, proof := range proofs {
		info := methods[proof.Method]
		if !info.first {
			continue
		}
		reached = stronger(reached, ClassOneFactor)
		if proof.Method == MethodUpstream {
			reached = stronger(reached, proof.Class)
		}
		if proof.UserVerified {
			reached = stronger(reached, info.verified)
		}
		for j, other := range proofs {
			if i == j || other.Method == proof.Method || !methods[other.Method].second {
				continue
			}
			reached = stronger(reached, ClassTwoFactors)
			if other.Method == MethodPasskey || proof.Method == MethodPasskey {
				reached = stronger(reached, ClassPhishingResistant)
			}
		}
	}
	return reached
}

// AMR returns the values for proofs (RFC 8176, section 2), in the order of the proofs, with mfa if
// there were two factors.
func AMR(proofs []ProvedMethod) []string {
	var amr []string
	for _, proof := range proofs {
		values := proof.AMR
		if values == nil {
			values = methods[proof.Method].amr
		}
		for _, value := range values {
			if !slices.Contains(amr, value) {
				amr = append(amr, value)
			}
		}
	}
	if Reached(Active(proofs)).Includes(ClassTwoFactors) && !slices.Contains(amr, "mfa") {
		amr = append(amr, "mfa")
	}
	return amr
}

// AuthTime returns the latest time since which proofs have reached their class: the time of the
// oldest proof that is needed for it.
func AuthTime(proofs []ProvedMethod) time.Time {
	latest := slices.Clone(proofs)
	slices.SortStableFunc(latest, func(a, b ProvedMethod) int { return b.At.Compare(a.At) })
	all := Reached(proofs)
	for i := range latest {
		if Reached(latest[:i+1]) == all {
			return latest[i].At
		}
	}
	return time.Time{}
}

// Since returns the proofs that are not older than a time; all of them, if it is zero.
func Since(proofs []ProvedMethod, at time.Time) []ProvedMethod {
	return slices.DeleteFunc(slices.Clone(proofs), func(p ProvedMethod) bool { return p.At.UnixMilli() < at.UnixMilli() && !at.IsZero() })
}

// Active returns the proofs without remembered ones: what the user did.
func Active(proofs []ProvedMethod) []ProvedMethod {
	return slices.DeleteFunc(slices.Clone(proofs), func(p ProvedMethod) bool { return p.Method == MethodRemembered })
}

// maxProofs is how many proofs a session keeps: with more, the sign-ins of a year would be part of it.
const maxProofs = 8

// source names what a proof comes from: a method, or one of several providers.
func (p ProvedMethod) source() string { return string(p.Method) + " " + p.Provider() }

// addProof adds a proof. It replaces an earlier one by the same method and authenticator. If there are too
// many, the first one goes that is not the last of its source: signing in at one provider again and again
// must not make the session forget the one at another, which has to be ended with it.
func addProof(proofs []ProvedMethod, proof ProvedMethod) []ProvedMethod {
	kept := slices.DeleteFunc(slices.Clone(proofs), func(p ProvedMethod) bool {
		return p.Method == proof.Method && p.Authenticator == proof.Authenticator && !p.At.After(proof.At)
	})
	kept = append(kept, proof)
	for len(kept) > maxProofs {
		i := superseded(kept)
		kept = slices.Delete(kept, i, i+1)
	}
	return kept
}

// superseded returns the index of the first proof that another one of the same source follows; 0 if there is
// none.
func superseded(proofs []ProvedMethod) int {
	for i, p := range proofs {
		if slices.ContainsFunc(proofs[i+1:], func(later ProvedMethod) bool { return later.source() == p.source() }) {
			return i
		}
	}
	return 0
}

// MergeProofs adds proofs to others.
func MergeProofs(proofs []ProvedMethod, more ...ProvedMethod) []ProvedMethod {
	for _, proof := range more {
		proofs = addProof(proofs, proof)
	}
	return proofs
}
