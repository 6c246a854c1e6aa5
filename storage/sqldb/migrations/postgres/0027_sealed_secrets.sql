-- +goose Up
-- Secrets that were derived from the first master key, sealed under the present one. While the master
-- key is being rotated, there is also a value that only the previous master key opens.
CREATE TABLE sealed_secrets (
	name TEXT PRIMARY KEY,
	sealed BYTEA NOT NULL
);
