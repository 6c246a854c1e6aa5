-- +goose Up
-- Messages to receivers that may be unavailable.
CREATE TABLE outbox (
	id TEXT PRIMARY KEY,
	data BLOB NOT NULL,
	created INTEGER NOT NULL,
	due INTEGER NOT NULL,
	attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (due, id);
