package main

import (
	"fmt"
	"strings"
)

// limit is how much CPU time a scenario may take, as a multiple of the floor's CPU time.
type limit struct {
	ratio  float64
	reason string
}

// limits are for SQLite, by scenario.
var limits = map[string]limit{
	"client_credentials": {1.25, "one signature, as the floor; the rest is the client's credentials, scope and JSON"},
	"code_flow":          {1.8, "two commits and two signatures, as the floor; it also reads the session, the user and the consent"},
	"refresh":            {1.5, "one commit and two signatures, as the floor; it also reads the token, its grant and the user"},
	"stored_refresh":     {1.7, "like refresh; the tokens are read at random among all that are stored"},
	"introspection":      {1.5, "the floor reads one row; this reads the token's authorization and its user"},
	"discovery":          {1.2, "a copy of a document, as the floor; the rest is routing and headers"},
	"jwks":               {1.2, "a copy of a document, as the floor; the rest is routing and headers"},
}

// postgreSQLAllowance exists because PostgreSQL's client costs more than SQLite's library, and the
// floors use SQLite.
const postgreSQLAllowance = 1.5

// limitOf returns the limit of a scenario on a database.
func limitOf(scenario, database string) float64 {
	ratio := limits[scenario].ratio
	if strings.HasPrefix(database, "postgres") {
		ratio *= postgreSQLAllowance
	}
	return ratio
}

// aboveLimit returns an error that names the scenarios above their limits.
func aboveLimit(report []result) error {
	var above []string
	for _, r := range report {
		if !(r.Ratio <= r.Limit) { // also fails for NaN, if nothing was measured
			above = append(above, fmt.Sprintf("%s takes %.2f times its floor, more than %.2f (%s)", r.Scenario, r.Ratio, r.Limit, limits[r.Scenario].reason))
		}
	}
	if len(above) > 0 {
		return fmt.Errorf("above the limit: %s", strings.Join(above, "; "))
	}
	return nil
}
