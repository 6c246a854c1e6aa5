package declaration

import (
	"crypto/rand"
	"strings"

	"github.com/valetkey/valetkey/identity"
)

// displace takes the identifiers of the declared users from signed-up accounts that have them
// (decision 0031). Such an account keeps its ID, its credentials and what it has granted, and gets
// another username if it loses that. Its user is told.
func (r *reconciling) displace(planned []*plannedUser) {
	declared, identifiers := map[string]bool{}, map[string]bool{}
	for _, p := range planned {
		declared[p.write.Record.ID] = true
		for _, identifier := range p.write.Record.Identifiers() {
			identifiers[identifier] = true
		}
	}
	for i := range r.state.Users {
		row := r.state.Users[i]
		if row.Record.Origin != identity.OriginSignedUp || declared[row.Record.ID] {
			continue
		}
		before := row.Record.Clone()
		// The new name is random: a predictable one could be taken, to block the declaration.
		if !row.Record.LoseIdentifiers(r.in.Now, identifiers, "user-"+strings.ToLower(rand.Text()[:12])) {
			continue
		}
		change := Change{Kind: KindUser, Name: before.Username, Action: ActionDisplace}
		change.Members = memberChanges(comparable(before), comparable(&row.Record), "", false)
		r.note(change)
		r.plan.Users = append(r.plan.Users, Write[identity.User]{Row: row, Visible: true})
	}
}
