-- Images that arrive in parts or from elsewhere, that are no disks, and that other tenants may use.

-- +goose Up
ALTER TABLE images
    ADD COLUMN kind          text NOT NULL DEFAULT 'disk' CONSTRAINT images_kind_check CHECK (kind IN ('disk', 'iso', 'kernel', 'initrd')),
    ADD COLUMN visibility    text NOT NULL DEFAULT 'private' CONSTRAINT images_visibility_check CHECK (visibility IN ('private', 'shared', 'public')),
    ADD COLUMN shared_with   uuid[] NOT NULL DEFAULT '{}',  -- tenants; of any use while visibility is 'shared'
    ADD COLUMN source_url    text NOT NULL DEFAULT '',      -- of an import
    ADD COLUMN declared_size bigint NOT NULL DEFAULT 0,     -- of an upload in parts, in bytes; its checksum stands in upload_sha256
    ADD COLUMN said_format   text NOT NULL DEFAULT '',      -- what the sender says that it is, until the header has told
    ADD COLUMN version       bigint NOT NULL DEFAULT 1;
ALTER TABLE images DROP CONSTRAINT images_status_check,
    ADD CONSTRAINT images_status_check CHECK (status IN ('uploading', 'importing', 'ready', 'failed'));
CREATE INDEX images_public_page ON images (created_at DESC, id DESC) WHERE visibility = 'public';
CREATE INDEX images_shared ON images USING gin (shared_with) WHERE visibility = 'shared';
CREATE INDEX images_uploading ON images (updated_at) WHERE status = 'uploading';

-- The images that a machine uses beside the one that it was made from: the disc in its drive, its kernel, its initrd. A trigger keeps
-- the rows, whoever writes the settings, so that no image in use can be deleted.
CREATE TABLE vm_media (
    vm_id    uuid NOT NULL CONSTRAINT vm_media_vm_id_fkey REFERENCES vms (id) ON DELETE CASCADE,
    role     text NOT NULL CHECK (role IN ('cdrom', 'kernel', 'initrd')),
    image_id uuid NOT NULL CONSTRAINT vm_media_image_id_fkey REFERENCES images (id),
    PRIMARY KEY (vm_id, role)
);
CREATE INDEX vm_media_image ON vm_media (image_id);

-- +goose StatementBegin
CREATE FUNCTION vm_media_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.settings = OLD.settings THEN
            RETURN NULL;
        END IF;
        DELETE FROM vm_media WHERE vm_id = NEW.id;
    END IF;
    INSERT INTO vm_media SELECT NEW.id, m.role, m.image_id::uuid FROM (VALUES
        ('cdrom', NEW.settings -> 'cdrom' ->> 'image_id'),
        ('kernel', NEW.settings -> 'direct_boot' ->> 'kernel_image_id'),
        ('initrd', NEW.settings -> 'direct_boot' ->> 'initrd_image_id')) AS m (role, image_id) WHERE m.image_id IS NOT NULL;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER vm_media_follow AFTER INSERT OR UPDATE OF settings ON vms FOR EACH ROW EXECUTE FUNCTION vm_media_follow();

-- +goose Down
DROP TRIGGER vm_media_follow ON vms;
DROP FUNCTION vm_media_follow();
DROP TABLE vm_media;
DROP INDEX images_uploading, images_shared, images_public_page;
DELETE FROM images WHERE status = 'uploading';
ALTER TABLE images DROP CONSTRAINT images_status_check,
    ADD CONSTRAINT images_status_check CHECK (status IN ('importing', 'ready', 'failed'));
ALTER TABLE images DROP COLUMN kind, DROP COLUMN visibility, DROP COLUMN shared_with, DROP COLUMN source_url, DROP COLUMN declared_size,
    DROP COLUMN said_format, DROP COLUMN version;
