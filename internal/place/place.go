// Package place finds the approximate place of an address in an offline database in the MaxMind DB
// format. It looks nothing up anywhere else.
package place

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Database is a database of places. It is safe for concurrent use.
type Database struct{ reader *maxminddb.Reader }

// Open opens a database. The file is mapped into memory: replace it by renaming another one, and do not
// overwrite it.
func Open(path string) (*Database, error) {
	reader, err := maxminddb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the database of places %s: %w", path, err)
	}
	return &Database{reader}, nil
}

// names are the names of a place by language.
type names struct {
	Names map[string]string `maxminddb:"names"`
}

// Of returns the city and country of an address in a language (BCP 47), or in English; "" if neither is
// known.
func (d *Database) Of(address netip.Addr, language string) string {
	var found struct {
		City    names `maxminddb:"city"`
		Country names `maxminddb:"country"`
	}
	if err := d.reader.Lookup(address.Unmap()).Decode(&found); err != nil {
		return "" // an address of another version, or a file of another kind
	}
	var parts []string
	for _, n := range []names{found.City, found.Country} {
		if name := n.in(language); name != "" {
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, ", ")
}

func (n names) in(language string) string {
	primary, _, _ := strings.Cut(language, "-")
	for _, tag := range []string{language, primary, map[string]string{"pt": "pt-BR", "zh": "zh-CN"}[primary], "en"} {
		if name := n.Names[tag]; name != "" {
			return name
		}
	}
	return ""
}
