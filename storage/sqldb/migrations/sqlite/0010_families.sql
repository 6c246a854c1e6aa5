-- +goose Up
-- A family ends with its descendants, which are a range of names. SQLite compares bytes
-- already.
SELECT 1;
