-- +goose Up
-- What ended before its time, among the many tickets whose status is published.
CREATE INDEX tickets_ended ON tickets (expires) WHERE kind = 'status' AND spent <> 0;
