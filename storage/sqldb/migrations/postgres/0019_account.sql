-- +goose Up
-- account is identity.AccountData as JSON; '' for nothing. delete_after is when the account is erased,
-- due when something in it is due, in milliseconds; 0 for never.
ALTER TABLE users ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN delete_after BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN due BIGINT NOT NULL DEFAULT 0;
CREATE INDEX users_due ON users (due) WHERE due <> 0;

-- When and from where something of a user was used last: a session, or a grant.
CREATE TABLE uses (
	owner TEXT NOT NULL,
	name TEXT NOT NULL,
	used BIGINT NOT NULL,
	remote TEXT NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (owner, name)
);
CREATE INDEX uses_expires ON uses (expires);
