-- +goose Up
-- When a client registered itself, and until when it is kept if it is not used (0: forever).
-- Declared clients have 0 in both.
ALTER TABLE clients ADD COLUMN registered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN unused_until INTEGER NOT NULL DEFAULT 0;
CREATE INDEX clients_registered ON clients (client_id) WHERE registered <> 0;
CREATE INDEX clients_unused ON clients (unused_until) WHERE unused_until <> 0;
