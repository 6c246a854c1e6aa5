-- +goose Up
-- The resources that the user was asked about, as a JSON array. NULL: they were not
-- recorded, and are those that know the scopes of the grant.
ALTER TABLE grants ADD COLUMN resources TEXT;
