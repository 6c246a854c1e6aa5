-- +goose Up
-- Messages to users. They have a table of their own: a node of the previous version removes
-- messages from outbox that it does not know.
CREATE TABLE mail_outbox (
	id TEXT COLLATE "C" PRIMARY KEY,
	owner TEXT NOT NULL,
	data BYTEA NOT NULL,
	created BIGINT NOT NULL,
	due BIGINT NOT NULL,
	claimed BIGINT NOT NULL DEFAULT 0,
	attempts BIGINT NOT NULL
);
CREATE INDEX mail_outbox_due ON mail_outbox (due, id);
CREATE INDEX mail_outbox_claimed ON mail_outbox (owner, claimed);
