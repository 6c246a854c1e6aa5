package sqldb

import "strings"

// CheckURL reports why Open would reject a URL, as far as that can be known without connecting.
// insecure is Config.InsecureConnection.
func CheckURL(databaseURL string, insecure bool) error {
	if !strings.HasPrefix(databaseURL, "postgres") {
		return nil
	}
	_, err := postgreSQLConfig(databaseURL, insecure)
	return err
}
