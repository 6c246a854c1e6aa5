-- +goose Up
-- What must reach somebody who may not be there now.
CREATE TABLE outbox (
	id TEXT PRIMARY KEY,
	data BLOB NOT NULL,
	created INTEGER NOT NULL,
	due INTEGER NOT NULL,
	attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (due, id);
