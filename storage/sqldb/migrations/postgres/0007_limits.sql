-- +goose Up
-- Until when the failures of a key are counted, on all nodes, in milliseconds. The key is a hash.
CREATE TABLE counts (
	key   BYTEA PRIMARY KEY,
	until BIGINT NOT NULL
);
CREATE INDEX counts_until ON counts (until);

-- The algorithm and parameters of password hashes: the part before the salt.
CREATE INDEX users_password_hash_kind ON users ((CASE WHEN substr(password_hash, 1, 10) = '$argon2id$'
		THEN rtrim(rtrim(rtrim(password_hash, 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=.'), '$'), 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=.')
		ELSE rtrim(password_hash, 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=.') END));
