package manage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// errDryRun ends a transaction of a request that must not change anything.
var errDryRun = errors.New("dry run")

// tag returns the ETag of a record: a keyed hash, because records contain secrets that may be guessed.
func (a *API) tag(record ...any) (string, error) {
	encoded, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("compute the version of a record: %w", err)
	}
	mac := hmac.New(sha256.New, a.tagKey)
	mac.Write(encoded)
	return `"` + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]) + `"`, nil
}

// mustMatch returns an error unless If-Match of a request has the ETag of the record (RFC 9110, section
// 13.1.1; RFC 6585, section 3). It is called where nothing can change the record anymore. "*" is true
// for every record that exists; for one that does not, the response is 404 whatever the condition is
// (section 13.2.1). Our ETags are strong, as the comparison requires, so a weak one never matches.
func mustMatch(ifMatch, tag string) error {
	if ifMatch == "" {
		return huma.Error428PreconditionRequired("send If-Match with the ETag of the record that you have read")
	}
	for candidate := range strings.SplitSeq(ifMatch, ",") {
		if candidate = strings.TrimSpace(candidate); candidate == "*" || candidate == tag {
			return nil
		}
	}
	return huma.Error412PreconditionFailed("the record has changed since you read it: read it again, and repeat the change if it is still right")
}

// Change, Existing and List are exported because huma reads the fields of exported types only.

// Change are the parameters of every operation that changes something.
type Change struct {
	DryRun bool `query:"dry_run" doc:"Check the request and return its result, but change nothing"`
}

// Existing are the parameters of an operation that changes a record that exists.
type Existing struct {
	Change
	IfMatch string `header:"If-Match" doc:"The ETag of the record that you have read; without it the response is 428"`
}

// List are the parameters of a list.
type List struct {
	Cursor string `query:"cursor" maxLength:"1024" doc:"The member next of the previous page"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most entries of a page"`
}

// after returns the key of the last entry of the previous page; "" for the first page.
func (l *List) after() (string, error) {
	key, err := base64.RawURLEncoding.DecodeString(l.Cursor)
	if err != nil || strings.Contains(string(key), "\x00") {
		return "", huma.Error400BadRequest("the cursor is not one that this server returned")
	}
	return string(key), nil
}

// cursor returns the cursor of the page after an entry with a key.
func cursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// pageOf returns a page of a list that is in memory.
func pageOf[T any](l *List, all []T, key func(*T) string) (page []T, next string, err error) {
	after, err := l.after()
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(all, func(a, b T) int { return strings.Compare(key(&a), key(&b)) })
	page = []T{}
	for i := range all {
		if after != "" && key(&all[i]) <= after {
			continue
		}
		if len(page) == l.Limit {
			return page, cursor(key(&page[l.Limit-1])), nil
		}
		page = append(page, all[i])
	}
	return page, "", nil
}

// filtered reads entries until a page is full of those that match, or there are no more, or it has read
// ten pages: then the page has fewer entries, or none, and a cursor. read returns at most limit
// entries after a key, in order.
func filtered[T any](l *List, read func(after string, limit int) ([]T, error), key func(*T) string, matches func(*T) bool) (found []T, next string, err error) {
	after, err := l.after()
	if err != nil {
		return nil, "", err
	}
	for range 10 {
		entries, err := read(after, l.Limit)
		if err != nil {
			return nil, "", err
		}
		for i := range entries {
			after = key(&entries[i])
			if !matches(&entries[i]) {
				continue
			}
			if found = append(found, entries[i]); len(found) == l.Limit {
				return found, cursor(after), nil
			}
		}
		if len(entries) < l.Limit {
			return found, "", nil
		}
	}
	return found, cursor(after), nil
}
