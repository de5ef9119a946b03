-- The vm module's own tables. The tables of the operation engine, the outbox and the idempotency keys follow in files of their own.

-- +goose Up
CREATE TYPE vm_state_enum AS ENUM ('creating', 'running', 'stopped', 'paused', 'migrating', 'error');

-- One row: the id that marks everything this installation makes on its nodes.
CREATE TABLE installation (
    id         uuid PRIMARY KEY,
    singleton  boolean NOT NULL DEFAULT true UNIQUE CHECK (singleton),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE images (
    id                 uuid PRIMARY KEY,
    tenant_id          uuid NOT NULL,
    owner_id           uuid NOT NULL,
    name               text NOT NULL,
    status             text NOT NULL CHECK (status IN ('importing', 'ready', 'failed')),
    format             text NOT NULL,              -- of the upload
    upload_sha256      text NOT NULL,              -- of the uploaded bytes
    sha256             text NOT NULL DEFAULT '',   -- of the stored qcow2 file, once it is ready
    size_bytes         bigint NOT NULL DEFAULT 0,  -- of the stored qcow2 file
    virtual_size_bytes bigint NOT NULL,
    operation_id       uuid,
    error              jsonb,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX images_tenant_page ON images (tenant_id, created_at DESC, id DESC);

CREATE TABLE vm_networks (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    owner_id     uuid NOT NULL,
    name         text NOT NULL,
    mode         text NOT NULL CHECK (mode IN ('nat', 'isolated')),
    bridge       text NOT NULL CONSTRAINT vm_networks_bridge_key UNIQUE,
    cidr         cidr NOT NULL,
    gateway      inet NOT NULL,
    dhcp_start   inet,
    dhcp_end     inet,
    is_default   boolean NOT NULL DEFAULT false,
    status       text NOT NULL CHECK (status IN ('creating', 'active', 'deleting')),
    operation_id uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT vm_networks_name_key UNIQUE (tenant_id, name),
    -- Networks share the nodes' routing tables, so no two may overlap, whichever tenants they belong to.
    CONSTRAINT vm_networks_overlap EXCLUDE USING gist (cidr inet_ops WITH &&)
);
CREATE UNIQUE INDEX vm_networks_one_default ON vm_networks (tenant_id) WHERE is_default;
CREATE INDEX vm_networks_tenant_page ON vm_networks (tenant_id, created_at DESC, id DESC);

CREATE TABLE vms (
    id              uuid PRIMARY KEY,
    name            text NOT NULL,
    state           vm_state_enum NOT NULL,
    hypervisor_type text NOT NULL,
    node_id         uuid,
    owner_id        uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    resource_config jsonb NOT NULL,
    network_config  jsonb NOT NULL,
    storage_config  jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    image_id        uuid NOT NULL REFERENCES images (id),
    flavor          text NOT NULL DEFAULT '',
    user_data       text NOT NULL DEFAULT '',
    ssh_keys        jsonb NOT NULL DEFAULT '[]',
    tags            jsonb NOT NULL DEFAULT '{}',
    desired_state   text NOT NULL CHECK (desired_state IN ('running', 'stopped', 'paused', 'deleted')),
    generation      bigint NOT NULL DEFAULT 1,
    operation_id    uuid,
    provisioned     boolean NOT NULL DEFAULT false, -- disks and domain were made once; they are never made anew silently
    observed_state  text NOT NULL DEFAULT 'absent',
    observed_reason text NOT NULL DEFAULT '',
    observed_node   uuid,
    observed_epoch  bigint NOT NULL DEFAULT 0,
    observed_at     timestamptz,
    error           jsonb,
    CONSTRAINT vms_name_key UNIQUE (tenant_id, name)
);
CREATE INDEX vms_tenant_page ON vms (tenant_id, created_at DESC, id DESC);
CREATE INDEX vms_tenant_state_page ON vms (tenant_id, state, created_at DESC, id DESC);
CREATE INDEX vms_page ON vms (created_at DESC, id DESC);
CREATE INDEX vms_node ON vms (node_id);
CREATE INDEX vms_image ON vms (image_id);

-- One row for each network interface; the primary key is what keeps two interfaces from getting one MAC.
CREATE TABLE vm_macs (
    mac        text PRIMARY KEY CHECK (mac ~ '^([0-9a-f]{2}:){5}[0-9a-f]{2}$'),
    vm_id      uuid NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    network_id uuid NOT NULL CONSTRAINT vm_macs_network_fkey REFERENCES vm_networks (id)
);
CREATE INDEX vm_macs_vm ON vm_macs (vm_id);
CREATE INDEX vm_macs_network ON vm_macs (network_id);

-- +goose Down
DROP TABLE vm_macs, vms, vm_networks, images, installation;
DROP TYPE vm_state_enum;
