-- What a virtual machine boots from while its own system is mended.

-- +goose Up
ALTER TABLE vms
    ADD COLUMN rescue          jsonb,
    ADD COLUMN rescue_image_id uuid CONSTRAINT vms_rescue_image_id_fkey REFERENCES images (id),
    ADD CONSTRAINT vms_rescue_check CHECK ((rescue IS NULL) = (rescue_image_id IS NULL));
CREATE INDEX vms_rescue_image_id ON vms (rescue_image_id) WHERE rescue_image_id IS NOT NULL;

-- +goose Down
ALTER TABLE vms DROP COLUMN rescue_image_id, DROP COLUMN rescue;
