package sqldb

import (
	"context"
	"strings"
)

// CheckURL reports why no database can be opened by a URL, without connecting to one.
func CheckURL(ctx context.Context, databaseURL string) error {
	if !strings.HasPrefix(databaseURL, "postgres") {
		return nil
	}
	database, err := openPostgreSQL(ctx, databaseURL)
	if err != nil {
		return err
	}
	return database.close()
}
