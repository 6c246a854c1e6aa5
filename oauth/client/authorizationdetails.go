package client

import (
	"encoding/json"
	"fmt"
	"net/url"
)

// setDetails sets the parameter authorization_details (RFC 9396, section 2) of a request.
func setDetails(request url.Values, details []any) error {
	if len(details) == 0 {
		return nil
	}
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("client: encode authorization details: %w", err)
	}
	request.Set("authorization_details", string(encoded))
	return nil
}
