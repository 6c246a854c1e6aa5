package faults

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
)

// The server is killed while it notifies an application of a logout: the next server does it.
func TestSE10_KilledWhileItNotifiesOfALogout(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		reached, notified := make(chan struct{}, 1), make(chan struct{}, 1)
		var restarted atomic.Bool
		application := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil || !strings.HasPrefix(r.PostForm.Get("logout_token"), "ey") {
				t.Errorf("the application gets %v (%v)", r.PostForm, err)
			}
			if restarted.Load() {
				notified <- struct{}{}
				return
			}
			reached <- struct{}{}
			<-r.Context().Done() // the server was killed
		}))
		defer application.Close()

		s := newSite(t, databaseURL)
		file, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Replace(string(file), "    scope: photos.read\n", "    scope: openid\n    skip_consent: true\n    backchannel_logout_uri: "+application.URL+"\n", 1)
		all += "outgoing: {networks: [127.0.0.1]}\n"
		if err := os.WriteFile(s.file, []byte(all), 0o600); err != nil {
			t.Fatal(err)
		}
		server := s.start(t)
		ada := person.New("ada0", password)
		_, err = ada.Visit(s.issuer+"/authorize?"+url.Values{
			"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "scope": {"openid"},
			"code_challenge": {oauth.S256Challenge(verifier)}, "code_challenge_method": {"S256"},
		}.Encode(), redirectURI)
		if err != nil {
			t.Fatalf("%v\n%s", err, server.stderr.String())
		}
		if _, err := ada.Visit(s.issuer+"/sign-out", s.issuer+"/signed-out"); err != nil {
			t.Fatal(err)
		}
		<-reached
		server = s.restart(t, server)
		restarted.Store(true)
		select {
		case <-notified:
		case <-time.After(time.Minute):
			t.Error("after the kill, the application is not notified")
		}
		server.kill(t)
		server.waitKilled(t)
	})
}
