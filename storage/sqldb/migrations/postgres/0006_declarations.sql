-- +goose Up
-- The origin of a user: declared, signed_up or setup. A user whose password is not from a
-- declaration signed up, or is the first administrator.
ALTER TABLE users ADD COLUMN origin TEXT NOT NULL DEFAULT '';
UPDATE users SET origin = CASE
	WHEN source <> '' OR declared_password <> '' OR password_hash = '' THEN 'declared'
	WHEN administrator THEN 'setup'
	ELSE 'signed_up' END;

-- named are the members that the source names, as a JSON array; '' for none.
ALTER TABLE users ADD COLUMN named TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN named TEXT NOT NULL DEFAULT '';
ALTER TABLE scopes ADD COLUMN named TEXT NOT NULL DEFAULT '';
ALTER TABLE resources ADD COLUMN named TEXT NOT NULL DEFAULT '';
ALTER TABLE scopes ADD COLUMN retired BIGINT NOT NULL DEFAULT 0;
ALTER TABLE resources ADD COLUMN retired BIGINT NOT NULL DEFAULT 0;
CREATE INDEX users_source ON users (source) WHERE source <> '';
CREATE INDEX users_retired ON users (retired) WHERE retired <> 0;

-- The versions of each source's file that were applied. The last one is current.
CREATE TABLE declared_versions (
	source TEXT NOT NULL,
	digest TEXT NOT NULL,
	modified BIGINT NOT NULL,
	applied BIGINT NOT NULL,
	PRIMARY KEY (source, digest)
);
