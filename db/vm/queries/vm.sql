-- name: VMInsert :exec
INSERT INTO vms (id, name, state, hypervisor_type, node_id, owner_id, tenant_id, resource_config, network_config, storage_config,
    image_id, flavor, user_data, ssh_keys, tags, desired_state, operation_id, description, settings, origin, cloud_init)
VALUES (@id, @name, 'creating', @hypervisor_type, @node_id, @owner_id, @tenant_id, @resource_config, @network_config, @storage_config,
    @image_id, @flavor, @user_data, @ssh_keys, @tags, @desired_state, @operation_id, @description, @settings, @origin, @cloud_init);

-- name: VMMACInsert :execrows
INSERT INTO vm_macs (mac, vm_id, network_id, id, ip, ip6, link_down, in_kbps, out_kbps)
SELECT @mac::text, @vm_id::uuid, n.id, @id::uuid, sqlc.narg(ip)::inet, sqlc.narg(ip6)::inet, @link_down::boolean, @in_kbps::bigint, @out_kbps::bigint
FROM vm_networks n WHERE n.id = @network_id AND n.status <> 'deleting' FOR SHARE;

-- name: VMGet :one
SELECT * FROM vms WHERE id = @id;

-- name: VMStatuses :many
SELECT id, name, state, desired_state, suspended, operation_id, node_id, tenant_id, owner_id, generation, revision, ready_at, error,
    observed_state, observed_reason, observed_node, observed_epoch, observed_at, network_config
FROM vms WHERE id = ANY(@ids::uuid[]);

-- name: VMGetForUpdate :one
SELECT * FROM vms WHERE id = @id FOR UPDATE;

-- name: VMNameTaken :one
SELECT EXISTS (SELECT 1 FROM vms WHERE tenant_id = @tenant_id AND name = @name);

-- name: VMListByNode :many
SELECT * FROM vms WHERE node_id = @node_id ORDER BY id;

-- name: VMBeginIntent :exec
UPDATE vms SET generation = @generation, operation_id = @operation_id, desired_state = @desired_state, updated_at = now()
WHERE id = @id;

-- name: VMSetProvisioned :execrows
UPDATE vms SET provisioned = true, updated_at = now() WHERE id = @id AND generation = @generation;

-- name: VMSetObserved :exec
UPDATE vms SET observed_state = @observed_state, observed_reason = @observed_reason, observed_node = @observed_node,
    observed_epoch = @observed_epoch, observed_at = @observed_at, state = @state, network_config = @network_config,
    desired_state = @desired_state, error = @error, suspended = @suspended, pending = @pending, ready_at = @ready_at,
    observed_boot = @observed_boot, updated_at = now()
WHERE id = @id;

-- name: VMEndIntent :exec
UPDATE vms SET operation_id = NULL, desired_state = @desired_state, state = @state, error = @error, resizing = @resizing, updated_at = now()
WHERE id = @id;

-- name: VMSetSettings :exec
UPDATE vms SET name = @name, description = @description, tags = @tags, settings = @settings, updated_at = now() WHERE id = @id;

-- name: VMSetRebuild :exec
UPDATE vms SET rebuild = @rebuild, rebuild_image_id = @rebuild_image_id, updated_at = now() WHERE id = @id;

-- name: VMBeginRebuild :execrows
UPDATE vms SET rebuild = jsonb_set(rebuild, '{begun}', 'true'), updated_at = now()
WHERE id = @id AND generation = @generation AND rebuild IS NOT NULL;

-- name: VMEndRebuild :execrows
UPDATE vms SET image_id = rebuild_image_id, user_data = @user_data, ssh_keys = @ssh_keys, rebuild = NULL, rebuild_image_id = NULL,
    origin = NULL, updated_at = now()
WHERE id = @id AND generation = @generation AND rebuild IS NOT NULL;

-- name: VMDropRebuild :exec
UPDATE vms SET rebuild = NULL, rebuild_image_id = NULL
WHERE id = @id AND rebuild IS NOT NULL AND NOT (rebuild -> 'begun')::boolean;

-- name: VMSetRescue :exec
UPDATE vms SET rescue = @rescue, rescue_image_id = @rescue_image_id, updated_at = now() WHERE id = @id;

-- name: VMMoveRescue :execrows
UPDATE vms SET rescue = @rescue, updated_at = now() WHERE id = @id AND generation = @generation AND rescue IS NOT NULL;

-- name: VMEndRescue :execrows
UPDATE vms SET rescue = NULL, rescue_image_id = NULL, updated_at = now() WHERE id = @id AND generation = @generation AND rescue IS NOT NULL;

-- name: VMDropRescue :exec
UPDATE vms SET rescue = NULL, rescue_image_id = NULL WHERE id = @id AND rescue ->> 'phase' = 'wanted';

-- name: VMSetResizing :exec
UPDATE vms SET resizing = true WHERE id = @id;

-- name: VMSetResources :execrows
UPDATE vms SET resource_config = @resource_config, flavor = @flavor, updated_at = now() WHERE id = @id AND generation = @generation;

-- name: VMSetPending :execrows
UPDATE vms SET pending = @pending, updated_at = now() WHERE id = @id AND generation = @generation;

-- name: VMHistoryForget :exec
DELETE FROM vm_history WHERE at < now() - interval '90 days';

-- name: VMListToBoot :many
SELECT * FROM vms WHERE observed_reason = 'host_reboot' AND desired_state = 'running' AND state = 'stopped' AND operation_id IS NULL;

-- name: VMDelete :exec
DELETE FROM vms WHERE id = @id;

-- name: VMExisting :many
SELECT id FROM vms WHERE id = ANY (@ids::uuid[]);
