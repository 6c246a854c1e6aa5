package identity

import (
	"errors"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// ErrLookAlike describes a username that could be taken for another one. End users see it.
var ErrLookAlike = errors.New("use letters of one alphabet that cannot be mistaken for another alphabet")

// CheckNewUsername reports why a user must not choose a username: because it is not valid, or could
// be taken for another user's name (Unicode Technical Standard 39). The error is suitable for end
// users. It does not apply to names that an operator declares, and to existing ones.
func CheckNewUsername(username string) error {
	canonical, err := CanonicalIdentifier(username)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(canonical, "@") {
		if !oneScript(part) || wholeScriptLookAlike(part) || mixesNumbers(part) || stacksMarks(part) {
			return ErrLookAlike
		}
	}
	return nil
}

// together are the scripts that one name may mix: the restriction level "highly restrictive"
// (section 5.2). Hiragana and Katakana, and Hangul, are written with Han characters.
var together = [][]*unicode.RangeTable{
	{unicode.Latin, unicode.Han, unicode.Hiragana, unicode.Katakana},
	{unicode.Latin, unicode.Han, unicode.Bopomofo},
	{unicode.Latin, unicode.Han, unicode.Hangul},
}

func oneScript(s string) bool {
	for _, scripts := range together {
		if covered(s, scripts...) {
			return true
		}
	}
	for _, script := range unicode.Scripts {
		if covered(s, script) {
			return true
		}
	}
	return false
}

// covered reports whether each character of s is in one of the scripts, or in no particular one.
func covered(s string, scripts ...*unicode.RangeTable) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, scripts...) && !unicode.In(r, unicode.Common, unicode.Inherited)
	})
}

// latinLookAlikes are letters in lower case, by script, that look like a Latin letter.
var latinLookAlikes = map[*unicode.RangeTable]string{
	unicode.Cyrillic: "асԁеһіїјӏорԛѕԝхуүҽѵѡьгпкт",
	unicode.Greek:    "αγεικνορτυχω",
	unicode.Armenian: "աոսօհցզյրքվ",
}

// wholeScriptLookAlike reports whether every letter of s looks like a Latin one, so that the whole
// looks like a Latin name (section 4).
func wholeScriptLookAlike(s string) bool {
	// Accents do not help to tell letters apart.
	plain := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFD.String(s))
	for script, letters := range latinLookAlikes {
		if strings.ContainsFunc(plain, func(r rune) bool { return unicode.Is(script, r) }) &&
			!strings.ContainsFunc(plain, func(r rune) bool { return unicode.IsLetter(r) && !strings.ContainsRune(letters, r) }) {
			return true
		}
	}
	return false
}

// mixesNumbers reports whether s has decimal digits of several number systems (section 5.3).
func mixesNumbers(s string) bool {
	var system rune
	for _, r := range s {
		if !unicode.Is(unicode.Nd, r) {
			continue
		}
		zero := zeroOf(r)
		if system != 0 && zero != system {
			return true
		}
		system = zero
	}
	return false
}

// zeroOf returns the digit zero of the number system of a decimal digit. The digits of a system are
// consecutive, and each range of unicode.Nd begins with a zero.
func zeroOf(digit rune) rune {
	for _, in := range unicode.Nd.R16 {
		if low := rune(in.Lo); low <= digit && digit <= rune(in.Hi) {
			return digit - (digit-low)%10
		}
	}
	for _, in := range unicode.Nd.R32 {
		if low := rune(in.Lo); low <= digit && digit <= rune(in.Hi) {
			return digit - (digit-low)%10
		}
	}
	return digit
}

// maxMarks is how many accents one letter may have (section 5.4).
const maxMarks = 4

func stacksMarks(s string) bool {
	marks := 0
	var last rune
	for _, r := range norm.NFD.String(s) {
		if !unicode.Is(unicode.Mn, r) {
			marks, last = 0, 0
			continue
		}
		if marks++; marks > maxMarks || r == last {
			return true
		}
		last = r
	}
	return false
}
