-- What virtual machines are made by: named sizes, public keys, and templates.

-- +goose Up
CREATE TABLE flavors (
    id          uuid PRIMARY KEY,
    name        text NOT NULL CONSTRAINT flavors_name_key UNIQUE,
    description text NOT NULL DEFAULT '',
    vcpus       integer NOT NULL CHECK (vcpus > 0),
    memory_mib  bigint NOT NULL CHECK (memory_mib > 0),
    disk_gib    bigint NOT NULL CHECK (disk_gib > 0),
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX flavors_page ON flavors (created_at, id);

-- The sizes that the program had built in until now.
INSERT INTO flavors (id, name, vcpus, memory_mib, disk_gib) VALUES
    ('01932c07-0000-7000-8000-000000000001', 'tiny', 1, 256, 1),
    ('01932c07-0000-7000-8000-000000000002', 'small', 1, 1024, 10),
    ('01932c07-0000-7000-8000-000000000003', 'medium', 2, 4096, 40),
    ('01932c07-0000-7000-8000-000000000004', 'large', 4, 8192, 80),
    ('01932c07-0000-7000-8000-000000000005', 'xlarge', 8, 16384, 160);

CREATE TABLE ssh_keys (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    owner_id    uuid NOT NULL,
    name        text NOT NULL,
    public_key  text NOT NULL,
    type        text NOT NULL,
    fingerprint text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ssh_keys_name_key UNIQUE (tenant_id, name)
);
CREATE INDEX ssh_keys_tenant_page ON ssh_keys (tenant_id, created_at DESC, id DESC);

CREATE TABLE vm_templates (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    owner_id    uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    visibility  text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'public')),
    spec        jsonb NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT vm_templates_name_key UNIQUE (tenant_id, name)
);
CREATE INDEX vm_templates_tenant_page ON vm_templates (tenant_id, created_at DESC, id DESC);
CREATE INDEX vm_templates_public_page ON vm_templates (created_at DESC, id DESC) WHERE visibility = 'public';

-- +goose Down
DROP TABLE vm_templates, ssh_keys, flavors;
