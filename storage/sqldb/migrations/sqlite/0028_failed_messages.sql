-- +goose Up
-- Messages that could not be delivered, for as long as an operator may want to try again. outbox is
-- clients, users or events.
CREATE TABLE failed_messages (
	outbox TEXT NOT NULL,
	id TEXT NOT NULL,
	owner TEXT NOT NULL,
	data BLOB NOT NULL,
	created INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	failed INTEGER NOT NULL,
	cause TEXT NOT NULL,
	PRIMARY KEY (outbox, id)
) STRICT;
CREATE INDEX failed_messages_owner ON failed_messages (outbox, owner, failed);
CREATE INDEX failed_messages_failed ON failed_messages (failed);

-- Requests that were accepted, beside those that were refused. The other columns repeat what is in
-- record, for searching; at is 0 in rows of an earlier version.
ALTER TABLE traces ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE traces ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE traces ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE traces ADD COLUMN subject TEXT NOT NULL DEFAULT '';
CREATE INDEX traces_accepted ON traces (accepted, seq);
