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
	// In the suite's frame: whom its script asks what the state is.
	checkAddress = regexp.MustCompile(`checkSessionUrl = '([^']*)'`)
)

// watchSession has the relying party's page ask the provider's frame before and after a
// sign-out. The page of a tab that was open before goes on asking about the old state.
func (v *visit) watchSession(ctx context.Context, app string) error {
	watching, err := v.browser.visit(ctx, app+"/auth/check-session")
	if err != nil {
		return err
	}
	frame := checkFrame.FindStringSubmatch(watching.body)
	if frame == nil {
		return fmt.Errorf("the page that watches the session has no frame: %d", watching.status)
	}
	source, ask := html.UnescapeString(frame[1]), html.UnescapeString(frame[2])
	for _, want := range []bool{false, true} {
		changed, err := v.browser.ask(ctx, source, ask, app)
		if err != nil {
			return err
		}
		if changed != want {
			return fmt.Errorf("the provider's frame says that the session changed: %v", changed)
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

// ask does what the suite's frame does with a message: it fetches the state and compares.
func (b *browser) ask(ctx context.Context, frame, message, origin string) (changed bool, err error) {
	loaded, err := b.load(ctx, http.MethodGet, frame, nil)
	if err != nil {
		return false, err
	}
	address := checkAddress.FindStringSubmatch(loaded.body)
	if address == nil {
		return false, errors.New("browser: the provider's frame cannot be read")
	}
	query := url.Values{"receivedMessage": {message}, "origin": {origin}}
	answer, err := b.load(ctx, http.MethodGet, jsUnescape(address[1])+"?"+query.Encode(), nil)
	if err != nil {
		return false, err
	}
	var state struct {
		SessionState string `json:"session_state"`
	}
	if err := json.Unmarshal([]byte(answer.body), &state); err != nil {
		return false, fmt.Errorf("browser: state of the session: %w", err)
	}
	asked := message[strings.LastIndex(message, " ")+1:]
	return asked != state.SessionState, nil
}
