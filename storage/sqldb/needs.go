package sqldb

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/valetkey/valetkey/storage/record"
)

// ClientNeeds implements record.Store. The database reads the metadata, because there may be many
// clients with few different needs.
func (s *Store) ClientNeeds(ctx context.Context) ([]record.ClientNeeds, error) {
	all, err := collect(ctx, s.database.read(), func(rows row) (n record.ClientNeeds, err error) {
		var responseTypes, userCode string
		if err := rows.Scan(&n.IDTokenSignedResponseAlg, &n.UserinfoSignedResponseAlg, &n.AccessTokenSignedResponseAlg, &n.AuthorizationSignedResponseAlg,
			&n.IntrospectionSignedResponseAlg, &n.IDTokenEncryptedResponseAlg, &n.RequestObjectEncryptionAlg, &n.RequestObjectSigningAlg, &responseTypes, &userCode); err != nil {
			return n, err
		}
		n.BackchannelUserCodeParameter = userCode == "true" || userCode == "1" // PostgreSQL, SQLite
		return n, json.Unmarshal([]byte(responseTypes), &n.ResponseTypes)
	}, `SELECT DISTINCT coalesce(m ->> 'id_token_signed_response_alg', ''), coalesce(m ->> 'userinfo_signed_response_alg', ''),
			coalesce(m ->> 'access_token_signed_response_alg', ''), coalesce(m ->> 'authorization_signed_response_alg', ''),
			coalesce(m ->> 'introspection_signed_response_alg', ''), coalesce(m ->> 'id_token_encrypted_response_alg', ''),
			coalesce(m ->> 'request_object_encryption_alg', ''), coalesce(m ->> 'request_object_signing_alg', ''),
			coalesce(m ->> 'response_types', 'null'), coalesce(m ->> 'backchannel_user_code_parameter', '')
		FROM (SELECT `+s.database.parsedJSON("metadata")+` AS m FROM clients WHERE retired = 0) AS parsed`)
	if err != nil {
		return nil, fmt.Errorf("read what clients need: %w", err)
	}
	return all, nil
}
