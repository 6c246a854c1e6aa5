package sqldb

import "strings"

// CheckURL reports why no database can be opened by a URL, without connecting to one.
// insecure allows what Config.InsecureConnection does.
func CheckURL(databaseURL string, insecure bool) error {
	if !strings.HasPrefix(databaseURL, "postgres") {
		return nil
	}
	_, err := postgreSQLConfig(databaseURL, insecure)
	return err
}
