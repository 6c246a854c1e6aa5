-- +goose Up
-- The hash of the code that a user has set (CIBA Core, section 7.1).
ALTER TABLE users ADD COLUMN user_code_hash TEXT NOT NULL DEFAULT '';
