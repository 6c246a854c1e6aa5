-- +goose Up
-- Records of who changed what. The columns before record repeat what is in it, for searching.
-- sequence is zero until the record is in the chain. foreign_record: it has no valid code.
CREATE TABLE audit_records (
	id TEXT COLLATE "C" PRIMARY KEY,
	event TEXT NOT NULL,
	actor TEXT NOT NULL,
	subject TEXT NOT NULL,
	client_id TEXT NOT NULL,
	record TEXT NOT NULL,
	code BYTEA NOT NULL,
	sequence BIGINT NOT NULL DEFAULT 0,
	foreign_record BOOLEAN NOT NULL DEFAULT false,
	hash BYTEA NOT NULL DEFAULT ''
);
CREATE INDEX audit_records_sequence ON audit_records (sequence) WHERE sequence <> 0;
CREATE INDEX audit_records_unsealed ON audit_records (id) WHERE sequence = 0;
CREATE INDEX audit_records_event ON audit_records (event, id);
CREATE INDEX audit_records_actor ON audit_records (actor, id) WHERE actor <> '';
CREATE INDEX audit_records_subject ON audit_records (subject, id) WHERE subject <> '';
CREATE INDEX audit_records_client ON audit_records (client_id, id) WHERE client_id <> '';

-- The end of the chain, and what is left of its removed beginning: anchor is a signed statement
-- about removed and removed_hash.
CREATE TABLE audit_chain (
	id BIGINT PRIMARY KEY CHECK (id = 1),
	sequence BIGINT NOT NULL,
	hash BYTEA NOT NULL,
	removed BIGINT NOT NULL,
	removed_hash BYTEA NOT NULL,
	anchor TEXT NOT NULL
);
INSERT INTO audit_chain (id, sequence, hash, removed, removed_hash, anchor) VALUES (1, 0, '', 0, '', '');

-- Records are not changed, except that they are sealed once.
-- +goose StatementBegin
CREATE FUNCTION audit_records_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'audit records cannot be changed';
END;
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_records_append_only BEFORE UPDATE ON audit_records FOR EACH ROW
WHEN (old.sequence <> 0 OR new.id <> old.id OR new.event <> old.event OR new.actor <> old.actor OR new.subject <> old.subject
	OR new.client_id <> old.client_id OR new.record <> old.record OR new.code <> old.code)
EXECUTE FUNCTION audit_records_append_only();
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit_records_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF old.sequence = 0 OR old.sequence > (SELECT removed FROM audit_chain WHERE id = 1) THEN
		RAISE EXCEPTION 'audit records cannot be deleted before their retention has ended';
	END IF;
	RETURN old;
END;
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_records_kept BEFORE DELETE ON audit_records FOR EACH ROW
EXECUTE FUNCTION audit_records_kept();
-- +goose StatementEnd

-- How far records were exported, and until when a node is doing that.
CREATE TABLE audit_exports (
	name TEXT COLLATE "C" PRIMARY KEY,
	sequence BIGINT NOT NULL,
	leased BIGINT NOT NULL
);

-- Records on their way to webhooks.
CREATE TABLE audit_outbox (
	id TEXT COLLATE "C" PRIMARY KEY,
	owner TEXT NOT NULL,
	data BYTEA NOT NULL,
	created BIGINT NOT NULL,
	due BIGINT NOT NULL,
	claimed BIGINT NOT NULL DEFAULT 0,
	attempts BIGINT NOT NULL
);
CREATE INDEX audit_outbox_due ON audit_outbox (due, id);
CREATE INDEX audit_outbox_claimed ON audit_outbox (owner, claimed);
