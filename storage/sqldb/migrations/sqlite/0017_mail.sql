-- +goose Up
-- Messages to users. They have a table of their own: a node of the previous version removes
-- messages from outbox that it does not know.
CREATE TABLE mail_outbox (
	id TEXT PRIMARY KEY,
	owner TEXT NOT NULL,
	data BLOB NOT NULL,
	created INTEGER NOT NULL,
	due INTEGER NOT NULL,
	claimed INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_outbox_due ON mail_outbox (due, id);
CREATE INDEX mail_outbox_claimed ON mail_outbox (owner, claimed);
