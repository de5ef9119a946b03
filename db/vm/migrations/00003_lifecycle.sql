-- What an operator does to virtual machines all day: settings, suspension to disk, sizes that change, a history, and a list that can be
-- searched.

-- +goose Up
ALTER TABLE vms
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN settings    jsonb NOT NULL DEFAULT '{}',      -- processor, watchdog, limits, boot order, autostart, protection
    ADD COLUMN suspended   boolean NOT NULL DEFAULT false,   -- off, with its memory on disk
    ADD COLUMN pending     jsonb NOT NULL DEFAULT '[]',      -- what the guest has otherwise until it was off
    ADD COLUMN resizing    boolean NOT NULL DEFAULT false;   -- a resize has begun and nobody has made guest and row one again

-- Names are compared by their bytes, so that an index serves both a prefix and the order.
CREATE INDEX vms_tenant_name ON vms (tenant_id, name COLLATE "C", id);
CREATE INDEX vms_name ON vms (name COLLATE "C", id);
CREATE INDEX vms_tenant_owner_page ON vms (tenant_id, owner_id, created_at DESC, id DESC);
CREATE INDEX vms_tenant_node_page ON vms (tenant_id, node_id, created_at DESC, id DESC);
CREATE INDEX vms_tenant_image_page ON vms (tenant_id, image_id, created_at DESC, id DESC);
CREATE INDEX vms_boot ON vms (node_id) WHERE observed_reason = 'host_reboot' AND desired_state = 'running';

-- +goose StatementBegin
CREATE FUNCTION vm_text(name text, description text, tags jsonb) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('pg_catalog.simple'::regconfig, regexp_replace(name || ' ' || description || ' ' || tags::text, '[^[:alnum:]]+', ' ', 'g'))
$$;
-- +goose StatementEnd
CREATE INDEX vms_text ON vms USING gin (vm_text(name, description, tags));

-- One row for each tag, in the order of the list, so that a tag that half the machines have is as quick as one that nobody has. A trigger
-- keeps them, whoever writes the tags.
CREATE TABLE vm_tags (
    vm_id      uuid NOT NULL CONSTRAINT vm_tags_vm_id_fkey REFERENCES vms (id) ON DELETE CASCADE,
    tenant_id  uuid NOT NULL,
    key        text NOT NULL,
    value      text NOT NULL,
    created_at timestamptz NOT NULL, -- of the machine
    PRIMARY KEY (vm_id, key)
);
CREATE INDEX vm_tags_page ON vm_tags (tenant_id, key, value, created_at DESC, vm_id DESC);
INSERT INTO vm_tags SELECT v.id, v.tenant_id, t.key, t.value, v.created_at FROM vms v, jsonb_each_text(v.tags) t;

-- +goose StatementBegin
CREATE FUNCTION vm_tags_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.tags = OLD.tags THEN
            RETURN NULL;
        END IF;
        DELETE FROM vm_tags WHERE vm_id = NEW.id;
    END IF;
    INSERT INTO vm_tags SELECT NEW.id, NEW.tenant_id, t.key, t.value, NEW.created_at FROM jsonb_each_text(NEW.tags) t;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER vm_tags_follow AFTER INSERT OR UPDATE OF tags ON vms FOR EACH ROW EXECUTE FUNCTION vm_tags_follow();

-- What happened to a machine, beside its operations. It goes with the machine.
CREATE TABLE vm_history (
    id     uuid PRIMARY KEY,
    vm_id  uuid NOT NULL CONSTRAINT vm_history_vm_id_fkey REFERENCES vms (id) ON DELETE CASCADE,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind   text NOT NULL,
    detail jsonb NOT NULL
);
CREATE INDEX vm_history_page ON vm_history (vm_id, at DESC, id DESC);
CREATE INDEX vm_history_at ON vm_history (at);

-- +goose Down
DROP TABLE vm_history;
DROP TRIGGER vm_tags_follow ON vms;
DROP FUNCTION vm_tags_follow();
DROP TABLE vm_tags;
DROP INDEX vms_text, vms_boot, vms_tenant_image_page, vms_tenant_node_page, vms_tenant_owner_page, vms_name, vms_tenant_name;
DROP FUNCTION vm_text(text, text, jsonb);
ALTER TABLE vms DROP COLUMN description, DROP COLUMN settings, DROP COLUMN suspended, DROP COLUMN pending, DROP COLUMN resizing;
