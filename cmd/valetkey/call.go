package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

type callCommand struct {
	URL     string        `arg:"" name:"url" help:"The URL of the API."`
	Name    string        `help:"The name of the kept token." default:"default" placeholder:"NAME"`
	Method  string        `short:"X" help:"The method. The default is GET, or POST with --data." placeholder:"METHOD"`
	Header  []string      `short:"H" sep:"none" help:"A header field, such as \"Accept: text/csv\". May be repeated." placeholder:"FIELD"`
	Data    string        `short:"d" help:"The body of the request, @FILE or @- for standard input. It is JSON unless --header has a Content-Type." placeholder:"DATA"`
	Include bool          `short:"i" help:"Print the status and the header of the response, too."`
	StepUp  string        `help:"Sign in again if the API demands it (RFC 9470): auto does it on a terminal only." enum:"auto,always,never" default:"auto"`
	Timeout time.Duration `help:"How long one request may take." default:"1m"`
}

// Help is shown by "valetkey call --help".
func (callCommand) Help() string {
	return "Sends a request with the token that \"valetkey token\" has kept. An expired token is renewed. " +
		"A bound token is sent with a proof or over mutual TLS. Redirects are not followed.\n\n" +
		"It fails if the response has a status of 400 or more; the body is printed anyway.\n\n" +
		"Examples:\n" +
		"  valetkey call https://photos.example.com/albums\n" +
		"  valetkey call --name bank -X PUT -d @payment.json https://bank.example.com/payments/1"
}

const (
	// maxCallBody limits the body of a request, which is kept in memory to be sent again.
	maxCallBody = 64 << 20
	// stepUpTimeout is how long the user may take to sign in again.
	stepUpTimeout = 10 * time.Minute
)

// Run calls an API.
func (c *callCommand) Run(ctx context.Context, o *output) error {
	request, body, err := c.request()
	if err != nil {
		return err
	}
	kept, oauthClient, err := c.renewed(ctx)
	if err != nil {
		return err
	}
	response, err := c.send(ctx, oauthClient, kept, request, body)
	if err != nil {
		return err
	}
	defer func() { response.Body.Close() }()
	if challenge := stepUpChallenge(response); challenge != nil && c.mayStepUp(kept) {
		response.Body.Close()
		if err := c.stepUp(ctx, o, oauthClient, kept, challenge); err != nil {
			return err
		}
		if response, err = c.send(ctx, oauthClient, kept, request, body); err != nil {
			return err
		}
	}
	return c.print(o, response)
}

// request returns the request, without its body.
func (c *callCommand) request() (*http.Request, []byte, error) {
	var body []byte
	if name, isFile := strings.CutPrefix(c.Data, "@"); isFile {
		var err error
		if body, err = readInput(name, maxCallBody); err != nil {
			return nil, nil, usageError{fmt.Errorf("read the body: %w", err)}
		}
	} else {
		body = []byte(c.Data)
	}
	method := c.Method
	switch {
	case method == "" && c.Data != "":
		method = http.MethodPost
	case method == "":
		method = http.MethodGet
	}
	request, err := http.NewRequest(method, c.URL, nil)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("the request is not valid: %w", err)}
	}
	request.Header.Set("User-Agent", "valetkey")
	if c.Data != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	given := http.Header{}
	for _, field := range c.Header {
		name, value, ok := strings.Cut(field, ":")
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		switch {
		case !ok || name == "":
			return nil, nil, usageError{fmt.Errorf("--header %q must be a name, a colon and a value", field)}
		case name == "Authorization" || name == "Dpop":
			return nil, nil, usageError{fmt.Errorf("--header %s: the kept token sets this field", name)}
		}
		given.Add(name, strings.TrimSpace(value))
	}
	maps.Copy(request.Header, given)
	if host := request.Header.Get("Host"); host != "" {
		return nil, nil, usageError{errors.New("--header Host: a proof is for the host of the URL")}
	}
	return request, body, nil
}

// renewed returns the kept token and its client. An expired token is renewed and kept before it is
// used; other processes wait meanwhile.
func (c *callCommand) renewed(ctx context.Context) (*keptToken, *client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	unlock, err := lockToken(ctx, c.Name)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	kept, err := readToken(c.Name)
	if err != nil {
		return nil, nil, err
	}
	oauthClient, err := kept.Client.discover(ctx)
	if err != nil {
		return nil, nil, err
	}
	before := kept.Tokens
	if kept.Grant == oauth.GrantTypeClientCredentials && !before.Expiry.IsZero() && time.Until(before.Expiry) < 5*time.Second {
		kept.Tokens, err = oauthClient.ClientCredentials(ctx)
	} else {
		kept.Tokens, err = oauthClient.Source(before, nil).Tokens(ctx)
	}
	if errors.Is(err, client.ErrSignInAgain) {
		return nil, nil, fmt.Errorf("the kept token has expired: get a new one with \"valetkey token\": %w", err)
	}
	if err == nil && kept.Tokens != before {
		err = keepToken(c.Name, kept)
	}
	return kept, oauthClient, err
}

// send sends the request with the token.
func (c *callCommand) send(ctx context.Context, oauthClient *client.Client, kept *keptToken, request *http.Request, body []byte) (*http.Response, error) {
	api := oauthClient.Source(kept.Tokens, nil).HTTPClient()
	api.Timeout = c.Timeout
	api.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request = request.Clone(ctx)
	if len(body) > 0 {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	response, err := api.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call the API: %w", err)
	}
	return response, nil
}

// stepUpChallenge returns the challenge of an API that demands another sign-in (RFC 9470, section
// 3); nil if there is none.
func stepUpChallenge(response *http.Response) *oauth.Challenge {
	if response.StatusCode != http.StatusUnauthorized {
		return nil
	}
	for _, field := range response.Header.Values("WWW-Authenticate") {
		for _, challenge := range oauth.ParseChallenges(field) {
			if challenge.Param("error") == string(oauth.InsufficientUserAuthentication) {
				return &challenge
			}
		}
	}
	return nil
}

// mayStepUp reports whether the user can sign in again.
func (c *callCommand) mayStepUp(kept *keptToken) bool {
	if kept.Grant != oauth.GrantTypeAuthorizationCode {
		return false
	}
	return c.StepUp == "always" || c.StepUp == "auto" && term.IsTerminal(int(os.Stderr.Fd()))
}

// stepUp signs the user in as the challenge demands (RFC 9470, section 4), and keeps the new token.
// It requests the same scopes as before, whatever the API says: only the user decides about them.
func (c *callCommand) stepUp(ctx context.Context, o *output, oauthClient *client.Client, kept *keptToken, challenge *oauth.Challenge) error {
	how := signIn{ACRValues: strings.Fields(challenge.Param("acr_values"))}
	if text := challenge.Param("max_age"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil || seconds < 0 {
			return fmt.Errorf("the API demands a new sign-in with a malformed max_age: %q", printable(text))
		}
		age := time.Duration(seconds) * time.Second
		how.MaxAge = &age
	}
	fmt.Fprintln(o.log, "The API demands a new sign-in.")
	ctx, cancel := context.WithTimeout(ctx, stepUpTimeout)
	defer cancel()
	tokens, err := kept.Client.signIn(ctx, o, oauthClient, how)
	if err != nil {
		return err
	}
	kept.Tokens = tokens
	return keepToken(c.Name, kept)
}

// print prints the response. A status of 400 or more is an error.
func (c *callCommand) print(o *output, response *http.Response) error {
	if c.Include {
		fmt.Fprintf(o.out, "%s %s\n", response.Proto, response.Status)
		if err := response.Header.Write(o.out); err != nil {
			return fmt.Errorf("print the response: %w", err)
		}
		fmt.Fprintln(o.out)
	}
	if _, err := io.Copy(o.out, response.Body); err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	if response.StatusCode < 400 {
		return nil
	}
	refusal := "the API responded with " + printable(response.Status)
	for _, field := range response.Header.Values("WWW-Authenticate") {
		for _, challenge := range oauth.ParseChallenges(field) {
			if code := challenge.Param("error"); code != "" {
				refusal += fmt.Sprintf(": %s %s", printable(code), printable(challenge.Param("error_description")))
			}
		}
	}
	return errors.New(refusal)
}
