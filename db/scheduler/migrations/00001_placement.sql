-- Nodes, what is allocated on them, and quotas. Counters are kept beside the rows they count and change in the same transaction.
-- Every transaction takes its locks in this order: the tenant's row of quota_usage, the allocation, the node.

-- +goose Up
CREATE TABLE nodes (
    id                    uuid PRIMARY KEY,
    name                  text NOT NULL,
    cordoned              boolean NOT NULL DEFAULT false,
    labels                jsonb NOT NULL DEFAULT '{}',
    revision              bigint NOT NULL DEFAULT 1, -- counts changes by administrators: the ETag
    -- As the last heartbeat told.
    epoch                 bigint NOT NULL,
    reported_at           timestamptz NOT NULL,      -- by the node's clock; orders heartbeats of one epoch
    last_heartbeat        timestamptz NOT NULL,      -- by this database's clock; decides whether the node is reachable
    cpu_capacity          integer NOT NULL CHECK (cpu_capacity >= 0),       -- hardware threads
    memory_capacity       bigint NOT NULL CHECK (memory_capacity >= 0),     -- bytes
    storage_capacity      bigint NOT NULL CHECK (storage_capacity >= 0),    -- bytes
    storage_free          bigint NOT NULL CHECK (storage_free >= 0),        -- bytes
    cpu_model             text NOT NULL,
    accelerator           text NOT NULL,
    architecture          text NOT NULL,
    version               text NOT NULL,
    hypervisor_version    text NOT NULL,
    hypervisors           text[] NOT NULL,
    health                text NOT NULL,
    reason                text NOT NULL,
    -- Sums over resource_allocations.
    cpu_allocated         bigint NOT NULL DEFAULT 0 CHECK (cpu_allocated >= 0),
    memory_allocated      bigint NOT NULL DEFAULT 0 CHECK (memory_allocated >= 0),
    storage_allocated     bigint NOT NULL DEFAULT 0 CHECK (storage_allocated >= 0),
    vms                   integer NOT NULL DEFAULT 0 CHECK (vms >= 0),
    registered_at         timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50); -- heartbeats rewrite rows all the time: room for them within the page, and no index to touch
CREATE INDEX nodes_page ON nodes (registered_at DESC, id DESC);

CREATE TABLE resource_allocations (
    id                uuid PRIMARY KEY,
    node_id           uuid NOT NULL REFERENCES nodes (id),
    vm_id             uuid NOT NULL CONSTRAINT resource_allocations_vm_id_key UNIQUE,
    tenant_id         uuid NOT NULL,
    hypervisor_type   text NOT NULL,
    cpu_allocated     integer NOT NULL CHECK (cpu_allocated > 0),
    memory_allocated  bigint NOT NULL CHECK (memory_allocated > 0),
    storage_allocated bigint NOT NULL CHECK (storage_allocated >= 0),
    status            text NOT NULL CHECK (status IN ('reserved', 'confirmed')),
    expires_at        timestamptz,
    allocated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT resource_allocations_expiry CHECK ((status = 'reserved') = (expires_at IS NOT NULL))
);
CREATE INDEX resource_allocations_page ON resource_allocations (allocated_at DESC, vm_id DESC);
CREATE INDEX resource_allocations_node_page ON resource_allocations (node_id, allocated_at DESC, vm_id DESC);
CREATE INDEX resource_allocations_tenant_page ON resource_allocations (tenant_id, allocated_at DESC, vm_id DESC);
CREATE INDEX resource_allocations_expires_at ON resource_allocations (expires_at) WHERE status = 'reserved';

-- A tenant without a row has the configured default. 0 means unlimited.
CREATE TABLE quotas (
    tenant_id     uuid PRIMARY KEY,
    vcpus         bigint NOT NULL CHECK (vcpus >= 0),
    memory_bytes  bigint NOT NULL CHECK (memory_bytes >= 0),
    storage_bytes bigint NOT NULL CHECK (storage_bytes >= 0),
    vms           bigint NOT NULL CHECK (vms >= 0),
    revision      bigint NOT NULL DEFAULT 1,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- Sums over resource_allocations.
CREATE TABLE quota_usage (
    tenant_id     uuid PRIMARY KEY,
    vcpus         bigint NOT NULL DEFAULT 0 CHECK (vcpus >= 0),
    memory_bytes  bigint NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0),
    storage_bytes bigint NOT NULL DEFAULT 0 CHECK (storage_bytes >= 0),
    vms           bigint NOT NULL DEFAULT 0 CHECK (vms >= 0)
);

-- +goose Down
DROP TABLE quota_usage, quotas, resource_allocations, nodes;
