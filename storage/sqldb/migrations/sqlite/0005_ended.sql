-- +goose Up
-- retired: when the record was removed from its declaration; it is kept, but refused. ended:
-- what was issued before that time is not valid. 0 for neither. kept: the names of the session
-- that a user kept then.
ALTER TABLE users ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN kept TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
CREATE INDEX users_ended ON users (ended) WHERE ended <> 0;
CREATE INDEX clients_ended ON clients (ended) WHERE ended <> 0;
