package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

var (
	checkFrame = regexp.MustCompile(`<iframe hidden src="([^"]*)" data-ask="([^"]*)">`)
	// In the suite's frame: the URL from which its script fetches the state.
	checkAddress = regexp.MustCompile(`checkSessionUrl = '([^']*)'`)
)

// watchSession queries the provider's frame from the relying party's page before and after a
// sign-out. A tab that was open before continues to send the old state.
func (v *visit) watchSession(ctx context.Context, app string) error {
	watching, err := v.browser.visit(ctx, app+"/auth/check-session")
	if err != nil {
		return err
	}
	frame := checkFrame.FindStringSubmatch(watching.body)
	if frame == nil {
		return fmt.Errorf("the page that watches the session has no frame: status %d", watching.status)
	}
	source, ask := html.UnescapeString(frame[1]), html.UnescapeString(frame[2])
	for _, want := range []bool{false, true} {
		changed, err := v.browser.ask(ctx, source, ask, app)
		if err != nil {
			return err
		}
		if changed != want {
			return fmt.Errorf("the provider's frame reports a changed session: %v, want %v", changed, want)
		}
		if want {
			break
		}
		if err := v.signOut(ctx, app); err != nil {
			return err
		}
	}
	return nil
}

// ask does what the suite's frame does with a message: it fetches the state and compares it.
func (b *browser) ask(ctx context.Context, frame, message, origin string) (changed bool, err error) {
	loaded, err := b.load(ctx, http.MethodGet, frame, nil)
	if err != nil {
		return false, err
	}
	address := checkAddress.FindStringSubmatch(loaded.body)
	if address == nil {
		return false, errors.New("browser: unknown frame of the provider")
	}
	query := url.Values{"receivedMessage": {message}, "origin": {origin}}
	response, err := b.load(ctx, http.MethodGet, jsUnescape(address[1])+"?"+query.Encode(), nil)
	if err != nil {
		return false, err
	}
	var state struct {
		SessionState string `json:"session_state"`
	}
	if err := json.Unmarshal([]byte(response.body), &state); err != nil {
		return false, fmt.Errorf("browser: state of the session: %w", err)
	}
	asked := message[strings.LastIndex(message, " ")+1:]
	return asked != state.SessionState, nil
}
