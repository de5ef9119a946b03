-- name: GroupInsert :one
INSERT INTO security_groups (id, tenant_id, owner_id, name, description, is_default)
VALUES (@id, @tenant_id, @owner_id, @name, @description, @is_default) RETURNING *;

-- name: GroupGet :one
SELECT * FROM security_groups WHERE id = @id;

-- name: GroupGetForUpdate :one
SELECT * FROM security_groups WHERE id = @id FOR UPDATE;

-- name: GroupGetDefault :one
SELECT * FROM security_groups WHERE tenant_id = @tenant_id AND is_default;

-- name: GroupList :many
SELECT * FROM security_groups
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name)
    AND (sqlc.narg(owner_id)::uuid IS NULL OR owner_id = sqlc.narg(owner_id) OR is_default)
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: GroupsExisting :many
SELECT id FROM security_groups WHERE tenant_id = @tenant_id AND id = ANY (@ids::uuid[]) FOR SHARE;

-- name: GroupUpdate :one
UPDATE security_groups SET name = @name, description = @description, version = version + 1, updated_at = now() WHERE id = @id RETURNING *;

-- name: GroupTouch :exec
UPDATE security_groups SET version = version + 1, updated_at = now() WHERE id = @id;

-- name: GroupDelete :exec
DELETE FROM security_groups WHERE id = @id;

-- name: GroupReferenced :one
SELECT EXISTS (SELECT 1 FROM security_group_rules WHERE remote_group_id = @id::uuid AND group_id <> @id::uuid);

-- name: RuleInsert :one
INSERT INTO security_group_rules (id, group_id, direction, protocol, port_min, port_max, remote_cidr, remote_group_id)
VALUES (@id, @group_id, @direction, @protocol, @port_min, @port_max, @remote_cidr, @remote_group_id) RETURNING *;

-- name: RuleCount :one
SELECT count(*) FROM security_group_rules WHERE group_id = @group_id;

-- name: RuleDelete :execrows
DELETE FROM security_group_rules WHERE id = @id AND group_id = @group_id;

-- name: RulesOf :many
SELECT * FROM security_group_rules WHERE group_id = ANY (@group_ids::uuid[]) ORDER BY created_at, id;

-- name: MACDelete :execrows
DELETE FROM vm_macs WHERE id = @id AND vm_id = @vm_id;

-- name: MACUpdate :execrows
UPDATE vm_macs SET link_down = @link_down, in_kbps = @in_kbps, out_kbps = @out_kbps WHERE id = @id AND vm_id = @vm_id;

-- name: MACGroupsDelete :exec
DELETE FROM vm_mac_groups WHERE mac = @mac;

-- name: MACGroupInsert :exec
INSERT INTO vm_mac_groups (mac, group_id) VALUES (@mac, @group_id);

-- name: VMSetNetworks :exec
UPDATE vms SET network_config = @network_config, updated_at = now() WHERE id = @id;

-- name: ForwardInsert :one
INSERT INTO port_forwards (id, tenant_id, owner_id, vm_id, mac, protocol, host_port, guest_port, source)
VALUES (@id, @tenant_id, @owner_id, @vm_id, @mac, @protocol, @host_port, @guest_port, @source) RETURNING *;

-- name: ForwardGet :one
SELECT * FROM port_forwards WHERE id = @id;

-- name: ForwardDelete :one
DELETE FROM port_forwards WHERE id = @id RETURNING *;

-- name: ForwardDeleteOf :many
DELETE FROM port_forwards f WHERE f.vm_id = @vm_id AND (sqlc.narg(interface_id)::uuid IS NULL
    OR f.mac = (SELECT m.mac FROM vm_macs m WHERE m.id = sqlc.narg(interface_id)))
RETURNING *;

-- name: ForwardList :many
SELECT * FROM port_forwards
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (sqlc.narg(vm_id)::uuid IS NULL OR vm_id = sqlc.narg(vm_id))
    AND (sqlc.narg(owner_id)::uuid IS NULL OR owner_id = sqlc.narg(owner_id))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: PolicyLock :one
INSERT INTO node_policies (node_id, version) VALUES (@node_id, 1)
ON CONFLICT (node_id) DO UPDATE SET version = node_policies.version + 1 RETURNING version;

-- name: PolicyNetworks :many
SELECT * FROM vm_networks WHERE status <> 'deleting' ORDER BY id;

-- name: PolicyInterfaces :many
SELECT m.*, v.name AS vm_name FROM vm_macs m JOIN vms v ON v.id = m.vm_id
WHERE v.node_id = @node_id AND v.desired_state <> 'deleted' AND v.id <> @without ORDER BY m.mac;

-- name: PolicyGroups :many
SELECT g.mac, g.group_id FROM vm_mac_groups g JOIN vm_macs m ON m.mac = g.mac JOIN vms v ON v.id = m.vm_id
WHERE v.node_id = @node_id ORDER BY g.mac, g.group_id;

-- name: PolicyMembers :many
SELECT g.group_id, m.ip, m.ip6 FROM vm_mac_groups g JOIN vm_macs m ON m.mac = g.mac
WHERE g.group_id = ANY (@group_ids::uuid[]) ORDER BY g.group_id, m.mac;

-- name: PolicyForwards :many
SELECT f.*, m.ip FROM port_forwards f JOIN vm_macs m ON m.mac = f.mac JOIN vms v ON v.id = f.vm_id
WHERE v.node_id = @node_id AND v.desired_state <> 'deleted' AND v.id <> @without ORDER BY f.protocol, f.host_port;
