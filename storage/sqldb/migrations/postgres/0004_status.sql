-- +goose Up
-- Tickets that ended before they expired, among the many whose status is published.
CREATE INDEX tickets_ended ON tickets (expires) WHERE kind = 'status' AND spent <> 0;
