-- +goose Up
-- The authenticators of a user, as JSON (identity.EncodeAuthenticators); '' if there are none. They
-- change only together with the user's record, under its lock.
ALTER TABLE users ADD COLUMN authenticators TEXT NOT NULL DEFAULT '';
