package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// suite is the REST API of a running conformance suite.
type suite struct {
	url    string
	client *http.Client
}

func newSuite(address string) *suite {
	return &suite{strings.TrimSuffix(address, "/"), &http.Client{
		Timeout: 2 * time.Minute,
		// The suite runs on this machine with a self-signed certificate.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 16},
	}}
}

// call sends a request to the API and decodes the response into result, unless it is nil.
func (s *suite) call(ctx context.Context, method, path string, query url.Values, body []byte, result any) error {
	address := s.url + "/api/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("call the suite: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read the suite's response: %w", err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d: %.500s", method, path, response.StatusCode, content)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(content, result); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// certificates returns the suite's certificates in PEM, so that the server can trust them.
func (s *suite) certificates(ctx context.Context) ([]byte, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	connection, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("reach the suite: %w", err)
	}
	defer connection.Close()
	var out bytes.Buffer
	for _, c := range connection.(*tls.Conn).ConnectionState().PeerCertificates {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func (s *suite) version(ctx context.Context) (string, error) {
	var v struct {
		Version  string `json:"version"`
		Revision string `json:"revision"`
	}
	err := s.call(ctx, http.MethodGet, "server", nil, nil, &v)
	return v.Version, err
}

// module is one test of a plan.
type module struct {
	Name    string            `json:"testModule"`
	Variant map[string]string `json:"variant"`
}

func (s *suite) createPlan(ctx context.Context, p *plan, configuration map[string]any) (id string, modules []module, err error) {
	variant, err := json.Marshal(p.Variant)
	if err != nil {
		return "", nil, err
	}
	body, err := json.Marshal(configuration)
	if err != nil {
		return "", nil, err
	}
	var created struct {
		ID      string   `json:"id"`
		Modules []module `json:"modules"`
	}
	err = s.call(ctx, http.MethodPost, "plan", url.Values{"planName": {p.Name}, "variant": {string(variant)}}, body, &created)
	return created.ID, created.Modules, err
}

func (s *suite) createModule(ctx context.Context, planID string, m module) (id string, err error) {
	variant, err := json.Marshal(m.Variant)
	if err != nil {
		return "", err
	}
	var created struct {
		ID string `json:"id"`
	}
	err = s.call(ctx, http.MethodPost, "runner", url.Values{"test": {m.Name}, "plan": {planID}, "variant": {string(variant)}}, nil, &created)
	return created.ID, err
}

// state is the state of a module.
type state struct {
	Status string `json:"status"`
	Result string `json:"result"`
}

func (s *suite) state(ctx context.Context, id string) (st state, err error) {
	err = s.call(ctx, http.MethodGet, "info/"+id, nil, nil, &st)
	return st, err
}

// pending returns the addresses that a browser should visit for a module.
func (s *suite) pending(ctx context.Context, id string) ([]string, error) {
	var running struct {
		Browser struct {
			URLs    []string `json:"urls"`
			Visited []string `json:"visited"`
		} `json:"browser"`
	}
	err := s.call(ctx, http.MethodGet, "runner/"+id, nil, nil, &running)
	return running.Browser.URLs, err
}

func (s *suite) visited(ctx context.Context, id, address string) error {
	return s.call(ctx, http.MethodPost, "runner/browser/"+id+"/visit", url.Values{"url": {address}}, nil, nil)
}

// entry is a line of a module's log.
type entry struct {
	Source  string `json:"src"`
	Message string `json:"msg"`
	Result  string `json:"result"`
	Upload  string `json:"upload"` // the name of a requested screenshot
}

func (s *suite) log(ctx context.Context, id string) (entries []entry, err error) {
	err = s.call(ctx, http.MethodGet, "log/"+id, nil, nil, &entries)
	return entries, err
}

// wanted returns the entries that request a screenshot that was not uploaded yet.
func (s *suite) wanted(ctx context.Context, id string) (asked []entry, err error) {
	err = s.call(ctx, http.MethodGet, "log/"+id+"/images", nil, nil, &asked)
	return slices.DeleteFunc(asked, func(e entry) bool { return e.Upload == "" }), err
}

func (s *suite) upload(ctx context.Context, id, name, picture string) error {
	return s.call(ctx, http.MethodPost, "log/"+id+"/images/"+name, nil, []byte(picture), nil)
}
