-- +goose Up
-- Records of who changed what. The columns before record repeat what is in it, for searching.
-- sequence is zero until the record is in the chain. foreign_record: it has no valid code.
CREATE TABLE audit_records (
	id TEXT PRIMARY KEY,
	event TEXT NOT NULL,
	actor TEXT NOT NULL,
	subject TEXT NOT NULL,
	client_id TEXT NOT NULL,
	record TEXT NOT NULL,
	code BLOB NOT NULL,
	sequence INTEGER NOT NULL DEFAULT 0,
	foreign_record INTEGER NOT NULL DEFAULT 0,
	hash BLOB NOT NULL DEFAULT x''
) STRICT;
CREATE INDEX audit_records_sequence ON audit_records (sequence) WHERE sequence <> 0;
CREATE INDEX audit_records_unsealed ON audit_records (id) WHERE sequence = 0;
CREATE INDEX audit_records_event ON audit_records (event, id);
CREATE INDEX audit_records_actor ON audit_records (actor, id) WHERE actor <> '';
CREATE INDEX audit_records_subject ON audit_records (subject, id) WHERE subject <> '';
CREATE INDEX audit_records_client ON audit_records (client_id, id) WHERE client_id <> '';

-- The end of the chain, and what is left of its removed beginning: anchor is a signed statement
-- about removed and removed_hash.
CREATE TABLE audit_chain (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	sequence INTEGER NOT NULL,
	hash BLOB NOT NULL,
	removed INTEGER NOT NULL,
	removed_hash BLOB NOT NULL,
	anchor TEXT NOT NULL
) STRICT;
INSERT INTO audit_chain (id, sequence, hash, removed, removed_hash, anchor) VALUES (1, 0, x'', 0, x'', '');

-- Records are not changed, except that they are sealed once.
-- +goose StatementBegin
CREATE TRIGGER audit_records_append_only BEFORE UPDATE ON audit_records
WHEN old.sequence <> 0 OR new.id <> old.id OR new.event <> old.event OR new.actor <> old.actor OR new.subject <> old.subject
	OR new.client_id <> old.client_id OR new.record <> old.record OR new.code <> old.code
BEGIN
	SELECT RAISE(ABORT, 'audit records cannot be changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_records_kept BEFORE DELETE ON audit_records
WHEN old.sequence = 0 OR old.sequence > (SELECT removed FROM audit_chain WHERE id = 1)
BEGIN
	SELECT RAISE(ABORT, 'audit records cannot be deleted before their retention has ended');
END;
-- +goose StatementEnd

-- How far records were exported, and until when a node is doing that.
CREATE TABLE audit_exports (
	name TEXT PRIMARY KEY,
	sequence INTEGER NOT NULL,
	leased INTEGER NOT NULL
) STRICT;

-- Records on their way to webhooks.
CREATE TABLE audit_outbox (
	id TEXT PRIMARY KEY,
	owner TEXT NOT NULL,
	data BLOB NOT NULL,
	created INTEGER NOT NULL,
	due INTEGER NOT NULL,
	claimed INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_outbox_due ON audit_outbox (due, id);
CREATE INDEX audit_outbox_claimed ON audit_outbox (owner, claimed);
