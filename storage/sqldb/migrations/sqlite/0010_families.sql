-- +goose Up
-- A family ends with its descendants, which are a range of names. SQLite
-- already compares bytes.
SELECT 1;
