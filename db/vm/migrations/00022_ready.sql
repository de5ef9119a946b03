-- When a guest told that it is set up.

-- +goose Up
ALTER TABLE vms ADD COLUMN ready_at timestamptz;

-- +goose Down
ALTER TABLE vms DROP COLUMN ready_at;
