-- Which of the times that a guest was powered on its node saw last: what was told of another does not count any more.

-- +goose Up
ALTER TABLE vms ADD COLUMN observed_boot text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vms DROP COLUMN observed_boot;
