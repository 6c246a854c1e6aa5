-- +goose Up
-- A family ends with its descendants, which are a range of names in the order of bytes.
ALTER TABLE tickets ALTER COLUMN family TYPE TEXT COLLATE "C";
