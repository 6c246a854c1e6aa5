package main

import (
	"fmt"
	"strings"
)

// limits are how much CPU time a scenario may take, as a multiple of the floor's on the same
// database.
type limits struct {
	sqlite, postgreSQL float64
	reason             string
}

func scenarioNamed(name string) (scenario, bool) {
	for _, s := range scenarios() {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

// limitOf returns the limit of a scenario on a database.
func limitOf(name, database string) float64 {
	s, _ := scenarioNamed(name)
	if strings.HasPrefix(database, "postgres") {
		return s.limits.postgreSQL
	}
	return s.limits.sqlite
}

// aboveLimit returns an error that names what is above its limit.
func aboveLimit(report report) error {
	var above []string
	if g := report.Guessing; g != nil && !(g.Slowdown <= maxSlowdown) {
		above = append(above, g.String())
	}
	for _, r := range report.Scenarios {
		if !(r.Ratio <= r.Limit) { // also fails for NaN, if nothing was measured
			s, _ := scenarioNamed(r.Scenario)
			above = append(above, fmt.Sprintf("%s takes %.2f times its floor, more than %.2f (%s)", r.Scenario, r.Ratio, r.Limit, s.limits.reason))
		}
	}
	if len(above) > 0 {
		return fmt.Errorf("above the limit: %s", strings.Join(above, "; "))
	}
	return nil
}
