package httpscript

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const example = `A script.
-- server.json --
{}
-- request: a long line --
GET /a?x=1
    &y={z*3} HTTP/1.1
Host: example.com

-- request --
# wait 61s
POST /b HTTP/1.1

code=$code1
&more

`

const updated = `A script.
-- server.json --
{}
-- request: a long line --
GET /a?x=1
    &y={z*3} HTTP/1.1
Host: example.com

-- response --
HTTP/1.1 200 OK
Content-Type: text/plain

GET example.com /a?x=1&y=zzz at 0s gives $code1 (ref XXXX-XXXX)

-- request --
# wait 61s
POST /b HTTP/1.1

code=$code1
&more

-- response --
HTTP/1.1 200 OK
Content-Type: text/plain

POST server.example.com /b at 1m1s gives $code1 (ref XXXX-XXXX)
code=$code1&more

`

// Update writes the missing responses of a script, which then passes without update.
func TestUpdateWritesTheResponses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txtar")
	if err := os.WriteFile(file, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func(*testing.T, []byte) Host {
		began := time.Now()
		return Host{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "%s %s %s at %s gives vk_ac_%s (ref ABCD-1234)\n", r.Method, r.Host, r.URL, time.Since(began), strings.Repeat("a", 54))
			if err := r.ParseForm(); err == nil && r.Method == http.MethodPost {
				body := make([]byte, r.ContentLength)
				if _, err := r.Body.Read(body); err == nil || len(body) > 0 {
					w.Write(body)
				}
			}
		})}
	}
	RunFiles(t, file, true, start)
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != updated {
		t.Errorf("update wrote\n%s", have)
	}
	RunFiles(t, file, false, start)
}

func TestUnknownNames(t *testing.T) {
	if _, err := newNames().expand("code=$code1"); err == nil {
		t.Error("$code1 has a value before there is a code")
	}
}
