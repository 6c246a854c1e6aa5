package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
)

type apiCommand struct {
	Path        string `arg:"" help:"The path below /manage/v1, with the query: /users?q=ada."`
	Method      string `short:"X" help:"The method. The default is GET, or POST with --data." placeholder:"METHOD"`
	Data        string `short:"d" help:"The body of the request as JSON, @FILE or @- for standard input." placeholder:"DATA"`
	IfMatch     string `name:"if-match" help:"The ETag of the record that is changed, which --include prints, or * for whatever is there." placeholder:"ETAG"`
	Include     bool   `short:"i" help:"Print the status and the header of the response, too."`
	serverFlags `embed:""`
}

// Help is shown by "valetkey api --help".
func (apiCommand) Help() string {
	return "Sends a request to the management API of a server, with the login or a service account, for what has no command of its own. " +
		"\"valetkey api /openapi.json\" describes all operations; docs/guides/management-api.md explains them.\n\n" +
		"It fails if the response has a status of 400 or more; the body is printed anyway.\n\n" +
		"Examples:\n  valetkey api '/outbox/users?failed=true'\n  valetkey api -d '{\"client_id\":\"shop\"}' /recordings\n" +
		"  valetkey api -X DELETE /tokens/4dUo0cVgO6cLxG1LqRfKpw"
}

// Run sends the request.
func (c *apiCommand) Run(ctx context.Context, o *output) error {
	// The token must not reach anything but the API.
	location, _, _ := strings.Cut(c.Path, "?")
	if !strings.HasPrefix(location, "/") || path.Clean(location) != location {
		return usageError{errors.New("the path must begin with / and is below /manage/v1, such as /users")}
	}
	call := callCommand{URL: c.Path, Method: c.Method, Data: c.Data, Include: c.Include}
	request, body, err := call.request()
	if err != nil {
		return err
	}
	connection, err := c.onlyServer(ctx)
	if err != nil {
		return err
	}
	response, err := c.send(ctx, connection, request, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := call.print(o, response); err != nil {
		return fmt.Errorf("%s %s: %w", request.Method, printable(location), err)
	}
	return nil
}

func (c *apiCommand) send(ctx context.Context, connection *api.Connection, described *http.Request, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, described.Method, connection.URL()+c.Path, bytes.NewReader(body))
	if err != nil {
		return nil, usageError{fmt.Errorf("the request is not valid: %w", err)}
	}
	request.Header = described.Header
	if c.IfMatch != "" {
		request.Header.Set("If-Match", c.IfMatch)
	}
	if request.Method != http.MethodGet {
		request.Header.Set("Idempotency-Key", newChange().IdempotencyKey)
	}
	response, err := connection.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call the management API: %w", err)
	}
	return response, nil
}
