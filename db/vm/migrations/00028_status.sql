-- The status of a virtual machine is kept in a cache, in the order of its row's revisions. Whoever changes rows, those who keep it are told which.

-- +goose Up
ALTER TABLE vms ADD COLUMN revision bigint NOT NULL DEFAULT 1;

-- +goose StatementBegin
CREATE FUNCTION vms_revise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER vms_revise BEFORE UPDATE ON vms FOR EACH ROW EXECUTE FUNCTION vms_revise();

-- What changes very many rows at once is no change of states that somebody waits for: what is kept of them expires.
-- +goose StatementBegin
CREATE FUNCTION vms_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM changed LIMIT 1001) AS first) <= 1000 THEN
        PERFORM pg_notify(TG_TABLE_SCHEMA || '_status', id::text) FROM changed;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER vms_tell_update AFTER UPDATE ON vms REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION vms_tell();
CREATE TRIGGER vms_tell_delete AFTER DELETE ON vms REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION vms_tell();

-- +goose Down
DROP TRIGGER vms_tell_delete ON vms;
DROP TRIGGER vms_tell_update ON vms;
DROP TRIGGER vms_revise ON vms;
DROP FUNCTION vms_tell();
DROP FUNCTION vms_revise();
ALTER TABLE vms DROP COLUMN revision;
