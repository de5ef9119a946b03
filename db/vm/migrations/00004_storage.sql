-- Volumes: disks that live longer than the machine they are attached to. Snapshots: what the disks of a machine held at one moment.

-- +goose Up
CREATE TABLE volumes (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    owner_id        uuid NOT NULL,
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    tags            jsonb NOT NULL DEFAULT '{}',
    node_id         uuid NOT NULL,
    format          text NOT NULL CHECK (format IN ('qcow2', 'raw')),
    size_bytes      bigint NOT NULL CHECK (size_bytes > 0),
    allocated_bytes bigint NOT NULL DEFAULT 0,      -- what its file takes, as the node said last
    image_id        uuid CONSTRAINT volumes_image_id_fkey REFERENCES images (id),
    status          text NOT NULL CHECK (status IN ('creating', 'ready', 'deleting')),
    -- The machine it is attached to, or is being attached to or detached from: at most one, because the row has one place for it.
    vm_id           uuid CONSTRAINT volumes_vm_id_fkey REFERENCES vms (id) ON DELETE SET NULL,
    attached_at     timestamptz,
    generation      bigint NOT NULL DEFAULT 1,
    operation_id    uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT volumes_name_key UNIQUE (tenant_id, name)
);
CREATE INDEX volumes_tenant_page ON volumes (tenant_id, created_at DESC, id DESC);
CREATE INDEX volumes_page ON volumes (created_at DESC, id DESC);
CREATE INDEX volumes_vm ON volumes (vm_id, attached_at) WHERE vm_id IS NOT NULL;
CREATE INDEX volumes_deleting ON volumes (updated_at) WHERE status = 'deleting';
CREATE INDEX volumes_node ON volumes (node_id);
CREATE INDEX volumes_image ON volumes (image_id) WHERE image_id IS NOT NULL;

CREATE TABLE vm_snapshots (
    id                uuid PRIMARY KEY,
    vm_id             uuid NOT NULL CONSTRAINT vm_snapshots_vm_id_fkey REFERENCES vms (id) ON DELETE CASCADE,
    tenant_id         uuid NOT NULL,
    owner_id          uuid NOT NULL,
    name              text NOT NULL,
    description       text NOT NULL DEFAULT '',
    parent_id         uuid,                         -- another one of the same machine; what is deleted hands its children on
    status            text NOT NULL CHECK (status IN ('creating', 'ready', 'failed', 'deleting')),
    memory            boolean NOT NULL,             -- with the memory of the machine
    frozen            boolean NOT NULL DEFAULT false, -- the guest agent held the file systems meanwhile
    vm_state          text NOT NULL,                -- of the machine at that moment
    config            jsonb NOT NULL,               -- what the machine had: a snapshot with memory fits no other
    size_bytes        bigint NOT NULL,              -- charged to the quota
    memory_bytes      bigint NOT NULL DEFAULT 0,    -- of the saved memory
    expected_pause_ms bigint NOT NULL,
    pause_ms          bigint,                       -- as it was; null where nobody knows
    operation_id      uuid,
    error             jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT vm_snapshots_name_key UNIQUE (vm_id, name)
);
CREATE INDEX vm_snapshots_page ON vm_snapshots (vm_id, created_at DESC, id DESC);
CREATE INDEX vm_snapshots_unfinished ON vm_snapshots (updated_at) WHERE status <> 'ready';

-- What the machine's disks stand on: the parent of the next snapshot.
ALTER TABLE vms ADD COLUMN current_snapshot_id uuid;

-- +goose Down
ALTER TABLE vms DROP COLUMN current_snapshot_id;
DROP TABLE vm_snapshots, volumes;
