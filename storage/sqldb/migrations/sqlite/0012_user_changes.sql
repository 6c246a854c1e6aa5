-- +goose Up
-- Nodes keep users in memory, and read here which of them have changed since. Triggers store the
-- rows, so that no writer can omit one: neither a node of the previous version nor an operator with
-- SQL of their own. AUTOINCREMENT never uses a number twice, and one transaction writes at a
-- time, so numbers grow in the order of commits.
CREATE TABLE user_changes (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	user_id TEXT NOT NULL,
	changed INTEGER NOT NULL
) STRICT;
CREATE INDEX user_changes_changed ON user_changes (changed);

-- +goose StatementBegin
CREATE TRIGGER user_updated AFTER UPDATE ON users BEGIN
	INSERT INTO user_changes (user_id, changed) VALUES (old.id, 1000 * unixepoch());
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER user_deleted AFTER DELETE ON users BEGIN
	INSERT INTO user_changes (user_id, changed) VALUES (old.id, 1000 * unixepoch());
END;
-- +goose StatementEnd
