-- +goose Up
-- Nodes keep users in memory, and read here which of them have changed since. A trigger stores the
-- rows, so that no writer can omit one: neither a node of the previous version nor an operator with
-- SQL of their own. Transactions do not commit in the order of their numbers. So a node reads
-- from the oldest transaction that was still running at its last query, and may see a row twice.
CREATE TABLE user_changes (
	seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	transaction_id BIGINT NOT NULL,
	user_id TEXT NOT NULL,
	changed BIGINT NOT NULL
);
CREATE INDEX user_changes_transaction ON user_changes (transaction_id);
CREATE INDEX user_changes_changed ON user_changes (changed);

-- The name of the schema is explicit: the transaction may have another search_path.
-- +goose StatementBegin
CREATE FUNCTION note_user_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %I.user_changes (transaction_id, user_id, changed) VALUES ($1, $2, $3)', TG_TABLE_SCHEMA)
		USING txid_current(), OLD.id, CAST(1000 * extract(epoch FROM clock_timestamp()) AS bigint);
	RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER user_changed AFTER UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION note_user_change();
-- +goose StatementEnd
