-- +goose Up
-- Times are milliseconds since 1970, 0 for none.
CREATE TABLE issuer (
	id BIGINT PRIMARY KEY CHECK (id = 1),
	version BIGINT NOT NULL,
	master_key_check BYTEA NOT NULL
);

-- Free space on each page lets a ticket be spent in place, without an update of an index.
CREATE TABLE tickets (
	kind TEXT NOT NULL,
	id BYTEA NOT NULL,
	grant_id TEXT NOT NULL,
	family TEXT NOT NULL,
	data BYTEA NOT NULL,
	expires BIGINT NOT NULL,
	spent BIGINT NOT NULL,
	PRIMARY KEY (kind, id)
) WITH (fillfactor = 90);
CREATE INDEX tickets_grant ON tickets (grant_id) WHERE grant_id <> '';
CREATE INDEX tickets_family ON tickets (family) WHERE family <> '';
CREATE INDEX tickets_expires ON tickets (expires);

CREATE TABLE clients (
	client_id TEXT PRIMARY KEY,
	metadata TEXT NOT NULL,
	secrets BYTEA NOT NULL,
	source TEXT NOT NULL
);

CREATE TABLE scopes (
	name TEXT PRIMARY KEY,
	record TEXT NOT NULL,
	source TEXT NOT NULL
);

CREATE TABLE resources (
	identifier TEXT PRIMARY KEY,
	record TEXT NOT NULL,
	source TEXT NOT NULL
);

CREATE TABLE keys (
	kid TEXT PRIMARY KEY,
	algorithm TEXT NOT NULL,
	private BYTEA NOT NULL,
	created BIGINT NOT NULL,
	signs_from BIGINT NOT NULL,
	published_until BIGINT NOT NULL
);

CREATE TABLE grants (
	id TEXT PRIMARY KEY,
	subject TEXT NOT NULL,
	client_id TEXT NOT NULL,
	scope TEXT NOT NULL,
	declined TEXT NOT NULL,
	created BIGINT NOT NULL,
	updated BIGINT NOT NULL,
	UNIQUE (subject, client_id)
);

CREATE TABLE users (
	id TEXT PRIMARY KEY,
	username TEXT NOT NULL,
	password_hash TEXT NOT NULL,
	declared_password TEXT NOT NULL,
	claims TEXT NOT NULL,
	disabled BOOLEAN NOT NULL,
	administrator BOOLEAN NOT NULL,
	created BIGINT NOT NULL,
	updated BIGINT NOT NULL,
	source TEXT NOT NULL
);
CREATE INDEX users_administrator ON users (id) WHERE administrator;

CREATE TABLE identifiers (
	identifier TEXT PRIMARY KEY,
	user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX identifiers_user ON identifiers (user_id);

CREATE TABLE traces (
	seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ref TEXT NOT NULL UNIQUE,
	record TEXT NOT NULL
);
