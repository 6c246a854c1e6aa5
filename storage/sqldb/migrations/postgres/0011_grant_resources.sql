-- +goose Up
-- The resources that the user was asked about, as a JSON array. NULL means that they were not
-- recorded: the grant covers those that know its scopes.
ALTER TABLE grants ADD COLUMN resources TEXT;
