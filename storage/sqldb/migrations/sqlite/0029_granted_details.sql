-- +goose Up
-- The authorization details that the user allowed (RFC 9396), as JSON.
ALTER TABLE grants ADD COLUMN details TEXT NOT NULL DEFAULT '';
