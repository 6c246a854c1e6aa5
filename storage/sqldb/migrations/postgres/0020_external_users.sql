-- +goose Up
-- The users of other providers who sign in to an account, as JSON (identity.EncodeExternal); '' if
-- there are none. external_users finds the account, and lets each of them belong to one only. Both
-- change together with the user's record, under its lock.
ALTER TABLE users ADD COLUMN external TEXT NOT NULL DEFAULT '';

CREATE TABLE external_users (
	issuer TEXT NOT NULL,
	subject TEXT NOT NULL,
	user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	PRIMARY KEY (issuer, subject)
);
CREATE INDEX external_users_user ON external_users (user_id);
