package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed plans.json
var plansJSON []byte

// plan is an entry of plans.json.
type plan struct {
	Plan    string  `json:"plan"`
	Variant variant `json:"variant"`
	// Encrypted runs the plan with encrypted ID tokens and UserInfo.
	Encrypted bool `json:"encrypted"`
}

func readPlans() ([]plan, error) {
	var plans []plan
	if err := json.Unmarshal(plansJSON, &plans); err != nil {
		return nil, fmt.Errorf("plans.json: %w", err)
	}
	return plans, nil
}

// String returns the plan's name and the variants that distinguish it.
func (p plan) String() string {
	var parts []string
	usual := []string{"default", "plain_http_request", "static_client", "plain_fapi", "simple", "unsigned", "plain_response"}
	for _, name := range slices.Sorted(maps.Keys(p.Variant)) {
		if value := p.Variant[name]; !slices.Contains(usual, value) {
			parts = append(parts, value)
		}
	}
	if p.Encrypted {
		parts = append(parts, "encrypted")
	}
	name := strings.TrimSuffix(strings.TrimSuffix(p.Plan, "-test-plan"), "-certification")
	if len(parts) == 0 {
		return name
	}
	return name + " (" + strings.Join(parts, ", ") + ")"
}

// result is the result of a module.
type result struct {
	Module  string   `json:"module"`
	Outcome string   `json:"outcome"`
	Reasons []string `json:"reasons,omitempty"`
}

// tested is an application that a plan tests: a relying party, or a client with a FAPI profile.
type tested interface {
	// configuration returns the suite's configuration of the client, and how long it waits.
	configuration() map[string]any
	// drive acts as the end user at the application for a module, and returns the error of the
	// application, or nil.
	drive(ctx context.Context, s *suite, test *instance, module string, v variant) error
	close()
}

func (p plan) newApplication() (tested, error) {
	if strings.HasPrefix(p.Plan, "fapi") {
		return newFAPIApplication(p)
	}
	return newApplication(p)
}

func (p plan) run(ctx context.Context, s *suite, only string) ([]result, error) {
	app, err := p.newApplication()
	if err != nil {
		return nil, err
	}
	defer app.close()
	made, err := s.createPlan(ctx, p.Plan, p.Variant, app.configuration())
	if err != nil {
		return nil, err
	}
	if len(made.Modules) == 0 {
		return nil, errors.New("the suite returned no modules")
	}
	var results []result
	for _, m := range made.Modules {
		if !strings.Contains(m.TestModule, only) {
			continue
		}
		if reason := leftOut(m.TestModule, p.Variant); reason != "" {
			results = append(results, result{Module: m.TestModule, Outcome: "SKIPPED", Reasons: []string{"not run: " + reason}})
			continue
		}
		r, stuck, err := runModule(ctx, s, app, made.ID, m.TestModule, m.Variant)
		if stuck && err == nil {
			r, _, err = runModule(ctx, s, app, made.ID, m.TestModule, m.Variant)
		}
		if err != nil {
			return results, fmt.Errorf("%s: %w", m.TestModule, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// runModule runs the relying party against a module, and takes the results of both. The
// module is stuck if the relying party did what it should and the suite has no result: the
// suite looks only once whether a request came that should not, and forgets to finish if it
// is serving another request at that moment. It is also stuck if the suite did not respond in time, as on
// a busy machine.
func runModule(ctx context.Context, s *suite, app tested, planID, module string, v variant) (r result, stuck bool, err error) {
	r = result{Module: module}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		r.Module += " " + v[name]
	}
	test, err := s.start(ctx, planID, module, v)
	if err != nil {
		return r, false, err
	}
	found, err := s.wait(ctx, test.ID, 2*time.Minute, "WAITING", "FINISHED", "INTERRUPTED")
	if err != nil {
		return r, false, err
	}
	took := app.drive(ctx, s, test, module, found.Variant)
	if found, err = s.wait(ctx, test.ID, time.Minute, "FINISHED", "INTERRUPTED"); err != nil {
		return r, false, err
	}
	if r.Outcome = found.Result; found.Status == "INTERRUPTED" || found.Status == "WAITING" || !slices.Contains(outcomes, r.Outcome) {
		r.Outcome = "FAILED"
		r.Reasons = append(r.Reasons, fmt.Sprintf("the suite reports status %s and result %q", found.Status, found.Result))
	}
	if r.Outcome != "PASSED" {
		texts, err := s.reasons(ctx, test.ID)
		if err != nil {
			return r, false, err
		}
		r.Reasons = append(r.Reasons, texts...)
	}
	reason := judge(module, took)
	if reason != "" {
		r.Outcome = "FAILED"
		r.Reasons = append(r.Reasons, reason)
	}
	return r, found.Status == "WAITING" && (reason == "" || errors.Is(took, context.DeadlineExceeded)), nil
}
