-- +goose Up
-- Messages to receivers that may be unavailable.
CREATE TABLE outbox (
	id TEXT COLLATE "C" PRIMARY KEY,
	data BYTEA NOT NULL,
	created BIGINT NOT NULL,
	due BIGINT NOT NULL,
	attempts BIGINT NOT NULL
);
CREATE INDEX outbox_due ON outbox (due, id);
