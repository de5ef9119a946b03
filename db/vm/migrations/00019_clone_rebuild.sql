-- Where a clone comes from, and what a virtual machine is being rebuilt from.

-- +goose Up
ALTER TABLE vms
    ADD COLUMN origin           jsonb, -- of a clone
    ADD COLUMN rebuild          jsonb, -- while a rebuild is not finished
    ADD COLUMN rebuild_image_id uuid CONSTRAINT vms_rebuild_image_id_fkey REFERENCES images (id),
    ADD CONSTRAINT vms_rebuild_check CHECK ((rebuild IS NULL) = (rebuild_image_id IS NULL));
CREATE INDEX vms_rebuild_image_id ON vms (rebuild_image_id) WHERE rebuild_image_id IS NOT NULL;

-- +goose Down
ALTER TABLE vms DROP COLUMN rebuild_image_id, DROP COLUMN rebuild, DROP COLUMN origin;
