-- Volumes and snapshots take storage of a node and of their tenant's quota, as machines do, but neither processors nor memory. The
-- column vm_id holds the id of whatever holds the place.

-- +goose Up
ALTER TABLE resource_allocations
    ADD COLUMN kind text NOT NULL DEFAULT 'vm',
    DROP CONSTRAINT resource_allocations_cpu_allocated_check,
    DROP CONSTRAINT resource_allocations_memory_allocated_check,
    ADD CONSTRAINT resource_allocations_kind_check CHECK (kind IN ('vm', 'volume', 'snapshot')),
    ADD CONSTRAINT resource_allocations_size_check CHECK (CASE WHEN kind = 'vm' THEN cpu_allocated > 0 AND memory_allocated > 0
        ELSE cpu_allocated = 0 AND memory_allocated = 0 END);

-- +goose Down
DELETE FROM resource_allocations WHERE kind <> 'vm';
ALTER TABLE resource_allocations
    DROP CONSTRAINT resource_allocations_size_check,
    DROP CONSTRAINT resource_allocations_kind_check,
    DROP COLUMN kind,
    ADD CONSTRAINT resource_allocations_cpu_allocated_check CHECK (cpu_allocated > 0),
    ADD CONSTRAINT resource_allocations_memory_allocated_check CHECK (memory_allocated > 0);
