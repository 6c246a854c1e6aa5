package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// suite is the REST API of a conformance suite.
type suite struct {
	address string
	http    *http.Client
}

// newSuite returns a suite whose certificate is not verified: it is self-signed.
func newSuite(address string) *suite {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	return &suite{address, &http.Client{Transport: transport, Timeout: time.Minute}}
}

func (s *suite) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var content io.Reader
	if body != nil {
		document, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("suite: %w", err)
		}
		content = bytes.NewReader(document)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.address+path+"?"+query.Encode(), content)
	if err != nil {
		return fmt.Errorf("suite: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.http.Do(request)
	if err != nil {
		return fmt.Errorf("suite: %w", err)
	}
	defer response.Body.Close()
	received, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("suite: %s: %w", path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("suite: %s: status %d: %.300s", path, response.StatusCode, received)
	}
	if err := json.Unmarshal(received, into); err != nil {
		return fmt.Errorf("suite: %s: %w", path, err)
	}
	return nil
}

// variant is the parameters of a plan or module: response_type, request_type and so on.
type variant map[string]string

// created is a plan at the suite, with its modules.
type created struct {
	ID      string `json:"id"`
	Modules []struct {
		TestModule string  `json:"testModule"`
		Variant    variant `json:"variant"`
	} `json:"modules"`
}

func (s *suite) createPlan(ctx context.Context, name string, v variant, configuration any) (*created, error) {
	chosen, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	var plan created
	err = s.call(ctx, http.MethodPost, "/api/plan", url.Values{"planName": {name}, "variant": {string(chosen)}}, configuration, &plan)
	return &plan, err
}

// instance is a created module: one test.
type instance struct {
	ID      string `json:"id"`
	Exposed struct {
		Issuer string `json:"issuer"`
		// Accounts is the API of the FAPI plans.
		Accounts string `json:"accounts_endpoint"`
	} `json:"exposed"`
	Browser struct {
		URLs []string `json:"urls"`
	} `json:"browser"`
}

// start creates a module of a plan and waits until the suite expects the relying party.
func (s *suite) start(ctx context.Context, plan, module string, v variant) (*instance, error) {
	query := url.Values{"test": {module}, "plan": {plan}}
	if len(v) > 0 {
		chosen, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("suite: %w", err)
		}
		query.Set("variant", string(chosen))
	}
	var test instance
	if err := s.call(ctx, http.MethodPost, "/api/runner", query, nil, &test); err != nil {
		return nil, err
	}
	found, err := s.wait(ctx, test.ID, 2*time.Minute, "CONFIGURED", "WAITING", "FINISHED", "INTERRUPTED")
	if err != nil {
		return nil, err
	}
	if found.Status == "CONFIGURED" {
		var ignored any
		if err := s.call(ctx, http.MethodPost, "/api/runner/"+test.ID, nil, nil, &ignored); err != nil {
			return nil, err
		}
	}
	if _, err := s.wait(ctx, test.ID, 2*time.Minute, "WAITING", "FINISHED", "INTERRUPTED"); err != nil {
		return nil, err
	}
	return s.instance(ctx, test.ID)
}

func (s *suite) instance(ctx context.Context, id string) (*instance, error) {
	var test instance
	err := s.call(ctx, http.MethodGet, "/api/runner/"+id, nil, nil, &test)
	return &test, err
}

// information is the state of a test. Variant has all of its parameters.
type information struct {
	Status  string  `json:"status"`
	Result  string  `json:"result"`
	Variant variant `json:"variant"`
}

// wait polls until the test has one of the states or the time is over, and returns the last
// state.
func (s *suite) wait(ctx context.Context, id string, most time.Duration, states ...string) (*information, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var found information
	for {
		if err := s.call(ctx, http.MethodGet, "/api/info/"+id, nil, nil, &found); err != nil && ctx.Err() == nil {
			return nil, err
		}
		if slices.Contains(states, found.Status) {
			return &found, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &found, nil
		}
	}
}

// reasons returns the entries of a test's log that are not a success.
func (s *suite) reasons(ctx context.Context, id string) ([]string, error) {
	var entries []struct {
		Source  string `json:"src"`
		Message string `json:"msg"`
		Result  string `json:"result"`
	}
	if err := s.call(ctx, http.MethodGet, "/api/log/"+id, nil, nil, &entries); err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if slices.Contains([]string{"FAILURE", "WARNING", "REVIEW", "SKIPPED"}, e.Result) {
			texts = append(texts, fmt.Sprintf("suite: %s: %.300s", e.Source, e.Message))
		}
	}
	return texts, nil
}
