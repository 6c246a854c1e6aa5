package directory

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

const (
	// maxGroups limits the groups of a user, and maxDepth how deeply they are nested. A user beyond the
	// limits is refused: a rule could not rely on an incomplete list.
	maxGroups = 10_000
	maxDepth  = 32
	// pageSize is the size of a page of results (RFC 2696), and membersAtOnce how many groups one
	// search looks for the parents of.
	pageSize      = 500
	membersAtOnce = 100
	maxNameBytes  = 255
)

// inChain is the matching rule of Active Directory that follows nested groups ([MS-ADTS], section
// 3.1.1.3.4.4.3).
const inChain = "1.2.840.113556.1.4.1941"

// posixMembers reports whether groups list the names of their members (RFC 2307), not their DNs.
func (d *Directory) posixMembers() bool { return strings.EqualFold(d.config.GroupMember, "memberUid") }

// groupsOf returns the names of the groups of a user, sorted.
func (d *Directory) groupsOf(c *connection, e *entry) ([]string, error) {
	var names []string
	seen := map[string]bool{} // by DN; groups can be in a cycle
	members := []string{e.dn}
	nested := d.config.Groups == GroupsNested
	rule := ""
	switch {
	case d.posixMembers():
		members, nested = e.entry.GetEqualFoldAttributeValues("uid"), false
	case nested && d.config.Type == TypeActiveDirectory:
		rule, nested = ":"+inChain+":", false
	}
	for depth := 0; len(members) > 0; depth++ {
		if depth > maxDepth {
			return nil, errTooManyGroups
		}
		var parents []string
		for some := range slices.Chunk(members, membersAtOnce) {
			found, err := d.groupsWith(c, rule, some)
			if err != nil {
				return nil, err
			}
			for _, group := range found {
				if key := strings.ToLower(group.DN); !seen[key] {
					seen[key] = true
					parents = append(parents, group.DN)
					if name := group.GetEqualFoldAttributeValue(d.config.GroupName); name != "" && len(name) <= maxNameBytes {
						names = append(names, name)
					}
				}
			}
			if len(seen) > maxGroups {
				return nil, errTooManyGroups
			}
		}
		members = nil
		if nested {
			members = parents
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	d.trace.add("groups", "%d: %s", len(names), strings.Join(names[:min(len(names), 20)], ", "))
	return names, nil
}

// groupsWith returns the groups that have one of some members.
func (d *Directory) groupsWith(c *connection, rule string, members []string) ([]*ldap.Entry, error) {
	var filter strings.Builder
	filter.WriteString("(&" + d.config.GroupFilter + "(|")
	for _, member := range members {
		filter.WriteString("(" + d.config.GroupMember + rule + "=" + ldap.EscapeFilter(member) + ")")
		if strings.EqualFold(d.config.GroupMember, "member") && d.config.Type != TypeActiveDirectory {
			filter.WriteString("(uniqueMember=" + ldap.EscapeFilter(member) + ")")
		}
	}
	filter.WriteString("))")
	request := ldap.NewSearchRequest(d.config.GroupBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter.String(), []string{d.config.GroupName}, nil)
	paging := ldap.NewControlPaging(pageSize)
	request.Controls = []ldap.Control{paging}
	var found []*ldap.Entry
	for {
		result, err := c.Search(request)
		if err != nil {
			return nil, err
		}
		found = append(found, result.Entries...)
		if len(found) > maxGroups {
			return nil, errTooManyGroups
		}
		next, ok := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return found, nil
		}
		paging.SetCookie(next.Cookie)
	}
}
