package probe

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestQuestions(t *testing.T) {
	key, now := Key("a key of thirty-two bytes......."), time.Unix(1_800_000_000, 0)
	q := Question{Time: now, HeaderBytes: 20_000, Cookies: true, Token: true}
	sealed := key.Seal(q)
	if got, err := key.Open(sealed, now); err != nil || got.HeaderBytes != 20_000 || !got.Cookies || !got.Token || !got.Time.Equal(now) {
		t.Fatalf("opened: %+v, %v", got, err)
	}
	if again := key.Seal(q); again == sealed {
		t.Error("two questions are the same")
	}
	large := key.Seal(Question{Time: now, HeaderBytes: MaxHeaderBytes + 1})
	text, tag, _ := strings.Cut(sealed, ".")
	for name, refused := range map[string]struct {
		key   Key
		value string
		now   time.Time
	}{
		"another key":       {Key("another"), sealed, now},
		"no key":            {nil, Key(nil).Seal(q), now},
		"old":               {key, sealed, now.Add(MaxAge + time.Second)},
		"from the future":   {key, sealed, now.Add(-MaxAge - time.Second)},
		"without a tag":     {key, text, now},
		"with an empty tag": {key, text + ".", now},
		"with a cut tag":    {key, text + "." + tag[:10], now},
		"changed":           {key, "B" + text[1:] + "." + tag, now},
		"too large":         {key, large, now},
		"empty":             {key, "", now},
	} {
		if _, err := refused.key.Open(refused.value, refused.now); err == nil {
			t.Errorf("a question %s is answered", name)
		}
	}
	if printed := fmt.Sprint(key); strings.Contains(printed, "thirty") {
		t.Errorf("the key is printed: %s", printed)
	}
}
