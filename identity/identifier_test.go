package identity

import (
	"testing"
)

func TestUN01_LookAlikesAreTheSameOrInvalid(t *testing.T) {
	same := [][2]string{
		{"alice", "ALICE"}, {"alice", "  alice\t"}, {"alice", "ａｌｉｃｅ"}, {"alice", "ＡＬＩＣＥ"},
		{"kate", "\u212Aate"},             // Kelvin sign
		{"angstrom", "angstrom"},          //
		{"å", "a\u030A"}, {"å", "\u212B"}, // composed, decomposed, ångström sign
		{"strasse", "straße"}, {"strasse", "STRASSE"}, {"σισυφος", "σισυφος"}, {"σισυφος", "ΣΙΣΥΦΟΣ"}, {"σισυφος", "σισυφοσ"},
		{"ilgin", "ılgın"}, {"ilgin", "ILGIN"},
		{"alice@example.com", "Alice@Example.COM"}, {"alice@example.com", "ａlice@example.com"},
		{"メール", "ﾒｰﾙ"}, // half width
	}
	for _, pair := range same {
		a, errA := CanonicalIdentifier(pair[0])
		b, errB := CanonicalIdentifier(pair[1])
		if errA != nil || errB != nil || a != b {
			t.Errorf("%+q and %+q: %+q (%v) and %+q (%v), want one", pair[0], pair[1], a, errA, b, errB)
		}
	}
	refused := []string{
		"", " ", "ali ce", "ali\u200Bce", "ali\u200Dce", "ali\u200Ece", "\u202Eecila", "ali\u2066ce", "ali\u00ADce", "\uFEFFalice",
		"ali\x00ce", "ali\nce", "\xff", "ﬁona", "\u017Falice", "ali①", "аlice" /* Cyrillic а */, "αlice", "a@", "@b", "@",
		"\u2060alice", "ali\uFE0Fce", "ali\U000E0061ce", string(make([]byte, 255)),
	}
	for _, s := range refused {
		if got, err := CanonicalIdentifier(s); err == nil {
			t.Errorf("CanonicalIdentifier(%+q) = %+q, want an error", s, got)
		}
	}
}

func TestCanonicalIdentifierIsDistinctAndStable(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []string{"alice", "alicé", "bob", "bob+tag@example.com", "bob@example.com", "b.ob@example.com", "bob@example.org", "דוד", "דוד@example.com", "李雷", "王芳", "user_1", "user-1", "o'neil"} {
		c, err := CanonicalIdentifier(s)
		if err != nil {
			t.Errorf("CanonicalIdentifier(%+q): %v", s, err)
		}
		if other, ok := seen[c]; ok {
			t.Errorf("%q and %q are both %q", s, other, c)
		}
		seen[c] = s
		if again, err := CanonicalIdentifier(c); err != nil || again != c {
			t.Errorf("CanonicalIdentifier is not stable: %q becomes %q (%v)", c, again, err)
		}
	}
}

func FuzzCanonicalIdentifier(f *testing.F) {
	f.Add("Alice@Example.com")
	f.Add("ＡＬＩＣＥ\u200b")
	f.Add("ılgınß")
	f.Add("ı\u0340")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := CanonicalIdentifier(s)
		if err != nil {
			return
		}
		if again, err := CanonicalIdentifier(c); err != nil || again != c {
			t.Errorf("%+q becomes %+q, which becomes %+q (%v)", s, c, again, err)
		}
	})
}

func TestLG33_UsernameCannotBeAnothersEmail(t *testing.T) {
	alice := &User{ID: "1", Username: "alice", Claims: map[string]any{"email": "Alice@Example.com"}}
	mallory := &User{ID: "2", Username: "ALICE@example.com"}
	if err := newMapStore(alice).CreateUser(t.Context(), mallory); err != ErrIdentifierTaken {
		t.Errorf("CreateUser = %v, want %v", err, ErrIdentifierTaken)
	}
}

func TestUserCheck(t *testing.T) {
	ok := User{ID: "1", Username: "alice", Claims: map[string]any{"email": "alice@example.com"}}
	if err := ok.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*User){
		"no ID":           func(u *User) { u.ID = "" },
		"no username":     func(u *User) { u.Username = "" },
		"email no string": func(u *User) { u.Claims = map[string]any{"email": 1} },
		"email no at":     func(u *User) { u.Claims = map[string]any{"email": "alice"} },
		"email two ats":   func(u *User) { u.Claims = map[string]any{"email": "a@b@c"} },
		"hash unreadable": func(u *User) { u.PasswordHash = "secret" },
	} {
		u := ok
		change(&u)
		if u.Check() == nil {
			t.Errorf("%s: Check accepts it", name)
		}
	}
}
