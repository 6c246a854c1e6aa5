package authserver

import "github.com/valetkey/valetkey/internal/plainjson"

// decodePlain decodes an authorization that has only members of simple types, in plain characters, as
// most have. For any other it returns false, and encoding/json decodes it. That takes several
// times as long.
func decodePlain(data string) (a authorization, ok bool) {
	r := plainjson.Reader{Rest: data}
	if !r.Skip('{') {
		return a, false
	}
	for !r.Failed {
		name := r.Text()
		if len(name) != 1 || !r.Skip(':') {
			return a, false
		}
		switch name[0] {
		case 'c':
			a.ClientID = r.Text()
		case 's':
			a.Subject = r.Text()
		case 'g':
			a.Grant = r.Text()
		case 'f':
			a.Family = r.Text()
		case 'o':
			a.Scope = r.List()
		case 'r':
			a.Resources = r.List()
		case 'u':
			a.Audience = r.List()
		case 'i':
			a.Session = r.Text()
		case 't':
			a.AuthTime = r.Number()
		case 'a':
			a.ACR = r.Text()
		case 'm':
			a.AMR = r.List()
		case 'b':
			a.Started = r.Number()
		case 'n':
			a.Issued = r.Number()
		default:
			return a, false
		}
		if r.Skip('}') {
			return a, !r.Failed && r.Rest == ""
		}
		if !r.Skip(',') {
			return a, false
		}
	}
	return a, false
}
