-- +goose Up
-- Messages are queued by owner. claimed is when the claim ends; 0 if there is none.
ALTER TABLE outbox ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN claimed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX outbox_claimed ON outbox (owner, claimed);
