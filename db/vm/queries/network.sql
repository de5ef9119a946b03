-- name: NetworkInsert :one
INSERT INTO vm_networks (id, tenant_id, owner_id, name, mode, bridge, cidr, gateway, dhcp_start, dhcp_end, is_default, status, operation_id)
VALUES (@id, @tenant_id, @owner_id, @name, @mode, @bridge, @cidr, @gateway, @dhcp_start, @dhcp_end, @is_default, 'creating', @operation_id)
RETURNING *;

-- name: NetworkGet :one
SELECT * FROM vm_networks WHERE id = @id;

-- name: NetworkGetForUpdate :one
SELECT * FROM vm_networks WHERE id = @id FOR UPDATE;

-- name: NetworkGetDefault :one
SELECT * FROM vm_networks WHERE tenant_id = @tenant_id AND is_default;

-- name: NetworkList :many
SELECT * FROM vm_networks
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name) AND (sqlc.narg(owner)::uuid IS NULL OR owner_id = sqlc.narg(owner))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: NetworkCIDRs :many
SELECT cidr FROM vm_networks;

-- name: NetworkInUse :one
SELECT EXISTS (SELECT 1 FROM vm_macs WHERE network_id = @id);

-- name: NetworkSetStatus :exec
UPDATE vm_networks SET status = @status, operation_id = @operation_id, updated_at = now() WHERE id = @id;

-- name: NetworkDelete :exec
DELETE FROM vm_networks WHERE id = @id;

-- name: InstallationInsert :exec
INSERT INTO installation (id) VALUES (@id) ON CONFLICT (singleton) DO NOTHING;

-- name: InstallationGet :one
SELECT id FROM installation;
