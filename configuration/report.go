package configuration

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/authserver"
)

// ClientReport compares a declared client with a profile and with RFC 9700, requirement by
// requirement.
type ClientReport struct {
	ID string `json:"client_id"`
	// Profile is the profile that Requirements are about.
	Profile string `json:"profile"`
	// Met says that all Requirements are met.
	Met          bool                        `json:"met"`
	Requirements []authserver.ProfileFinding `json:"requirements"`
	// RFC9700 are the recommendations of RFC 9700 for the client as it is declared.
	RFC9700 []authserver.ProfileFinding `json:"rfc9700"`
}

// Report compares the declared clients with a profile, as if they had it; "" is the profile that each
// of them has. If ids are given, only those clients are compared. What the database may have in
// addition is not known.
func (c *Configuration) Report(profile string, ids ...string) ([]ClientReport, error) {
	if err := authserver.CheckProfile(profile); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(c.Clients, func(declared Client) bool { return declared.ID == id }) {
			return nil, fmt.Errorf("the client %q is not declared", id)
		}
	}
	reports := []ClientReport{}
	for i := range c.Clients {
		if len(ids) > 0 && !slices.Contains(ids, c.Clients[i].ID) {
			continue
		}
		reports = append(reports, c.compare(&c.Clients[i], profile))
	}
	return reports, nil
}

func (c *Configuration) compare(declared *Client, profile string) ClientReport {
	client := declared.record()
	client.RequireCodeChallenge = client.RequireCodeChallenge || c.RequireCodeChallenge
	r := ClientReport{ID: client.ID, Profile: cmp.Or(profile, client.Profile, c.Profile, authserver.ProfileOAuth21)}
	r.RFC9700 = authserver.ReportRFC9700(client, c.Profile)
	r.Requirements = authserver.ReportProfile(client, r.Profile)
	client.Profile = r.Profile
	if authserver.NeedsMutualTLS(client, "") {
		r.add("the server reads client certificates", "RFC 8705, section 3", c.MutualTLS == nil, "set mutual_tls")
	}
	if r.Requirements == nil {
		r.Requirements = []authserver.ProfileFinding{}
	}
	r.Met = !slices.ContainsFunc(r.Requirements, func(f authserver.ProfileFinding) bool { return !f.Met })
	return r
}

// add adds a requirement on the server.
func (r *ClientReport) add(rule, section string, broken bool, problem string) {
	finding := authserver.ProfileFinding{Rule: rule, Section: section, Met: !broken}
	if broken {
		finding.Problem = problem
	}
	r.Requirements = append(r.Requirements, finding)
}
