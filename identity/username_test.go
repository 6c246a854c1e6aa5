package identity

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestUN02_NewUsernamesThatLookLikeOthersAreRefused(t *testing.T) {
	for _, s := range []string{
		"аррӏе" /* Cyrillic */, "сосо", "расе", "scоpe" /* Cyrillic о */, "οικο" /* Greek */, "оdmin", "օսս" /* Armenian */, "aօ" /* Latin and Armenian */, "сo\u0301",
		"дima", "שalom", "user١2", "a\u0323\u0323", "a\u0323\u0325\u032d\u0330\u0324", "аррӏе@home", "ali\u200bce", "\u202ealice", "한かな",
	} {
		if err := CheckNewUsername(s); err == nil {
			t.Errorf("CheckNewUsername(%+q) accepts it", s)
		}
	}
	for _, s := range []string{
		"alice", "Alice.Liddell-2", "jörg", "ñandú", "nguyễn", "дмитрий", "наташа", "γιώργος", "արամ", "דוד", "محمد", "李雷", "たなかさん", "ﾒｰﾙ", "田中taro", "김철수",
		"สมชาย", "राम", "user_1", "o'neil", "alice@example.com", "12345",
	} {
		if err := CheckNewUsername(s); err != nil {
			t.Errorf("CheckNewUsername(%+q): %v", s, err)
		}
	}
}

// A long name costs no more than a short one, because it is refused first.
func TestSignUpRefusesLookAlikes(t *testing.T) {
	a, _ := newBreachedAccounts(t, nil)
	for _, name := range []string{"аррӏе", strings.Repeat("a", 1<<20), "ali\u200bce"} {
		_, err := a.SignUp(t.Context(), time.Now(), NewAccount{Username: name, Password: "lunar module 11"})
		if _, ok := errors.AsType[*InvalidUserError](err); !ok {
			t.Errorf("SignUp(%.20q) = %v", name, err)
		}
	}
}
