-- What cloud-init is given beside user-data and keys.

-- +goose Up
ALTER TABLE vms ADD COLUMN cloud_init jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE vms DROP COLUMN cloud_init;
