-- Networks with a way outside of their own, addresses of interfaces, security groups and port forwards.

-- +goose Up
ALTER TABLE vm_networks
    DROP CONSTRAINT vm_networks_mode_check,
    ADD CONSTRAINT vm_networks_mode_check CHECK (mode IN ('nat', 'isolated', 'routed', 'bridge')),
    ALTER COLUMN cidr DROP NOT NULL,
    ALTER COLUMN gateway DROP NOT NULL,
    ADD COLUMN cidr6 cidr,
    ADD COLUMN gateway6 inet,
    ADD COLUMN uplink text NOT NULL DEFAULT '',
    ADD COLUMN vlan integer NOT NULL DEFAULT 0 CHECK (vlan BETWEEN 0 AND 4094),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD CONSTRAINT vm_networks_addresses CHECK ((mode = 'bridge') = (cidr IS NULL) AND (cidr IS NULL) = (gateway IS NULL) AND (cidr6 IS NULL) = (gateway6 IS NULL)),
    ADD CONSTRAINT vm_networks_uplink CHECK ((mode = 'bridge') = (uplink <> '')),
    ADD CONSTRAINT vm_networks_overlap6 EXCLUDE USING gist (cidr6 inet_ops WITH &&);

-- The row of an interface. What a client sees of it stands in vms.network_config too, written in the same transactions, so that lists of
-- virtual machines need no join; uniqueness and the nodes' policies are made of these rows.
ALTER TABLE vm_macs
    ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT vm_macs_id_key UNIQUE,
    ADD COLUMN ip inet,
    ADD COLUMN ip6 inet,
    ADD COLUMN link_down boolean NOT NULL DEFAULT false,
    ADD COLUMN in_kbps bigint NOT NULL DEFAULT 0 CHECK (in_kbps >= 0),
    ADD COLUMN out_kbps bigint NOT NULL DEFAULT 0 CHECK (out_kbps >= 0),
    ADD CONSTRAINT vm_macs_ip_key UNIQUE (network_id, ip);

CREATE TABLE security_groups (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    owner_id    uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    is_default  boolean NOT NULL DEFAULT false,
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT security_groups_name_key UNIQUE (tenant_id, name)
);
CREATE UNIQUE INDEX security_groups_one_default ON security_groups (tenant_id) WHERE is_default;
CREATE INDEX security_groups_tenant_page ON security_groups (tenant_id, created_at DESC, id DESC);

CREATE TABLE security_group_rules (
    id              uuid PRIMARY KEY,
    group_id        uuid NOT NULL REFERENCES security_groups (id) ON DELETE CASCADE,
    direction       text NOT NULL CHECK (direction IN ('ingress', 'egress')),
    protocol        text NOT NULL CHECK (protocol IN ('any', 'tcp', 'udp', 'icmp', 'icmpv6')),
    port_min        integer NOT NULL DEFAULT 0 CHECK (port_min BETWEEN 0 AND 65535),
    port_max        integer NOT NULL DEFAULT 0 CHECK (port_max BETWEEN port_min AND 65535),
    remote_cidr     cidr,
    remote_group_id uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- A group may go with its own references to itself, but not while others refer to it.
    CONSTRAINT security_group_rules_remote_fkey FOREIGN KEY (remote_group_id) REFERENCES security_groups (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT security_group_rules_one_remote CHECK (remote_cidr IS NULL OR remote_group_id IS NULL),
    CONSTRAINT security_group_rules_key UNIQUE NULLS NOT DISTINCT (group_id, direction, protocol, port_min, port_max, remote_cidr, remote_group_id)
);
CREATE INDEX security_group_rules_remote ON security_group_rules (remote_group_id);

CREATE TABLE vm_mac_groups (
    mac      text NOT NULL REFERENCES vm_macs (mac) ON DELETE CASCADE,
    group_id uuid NOT NULL CONSTRAINT vm_mac_groups_group_fkey REFERENCES security_groups (id),
    PRIMARY KEY (mac, group_id)
);
CREATE INDEX vm_mac_groups_group ON vm_mac_groups (group_id);

CREATE TABLE port_forwards (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    owner_id   uuid NOT NULL,
    vm_id      uuid NOT NULL CONSTRAINT port_forwards_vm_fkey REFERENCES vms (id) ON DELETE CASCADE,
    mac        text NOT NULL CONSTRAINT port_forwards_mac_fkey REFERENCES vm_macs (mac) ON DELETE CASCADE,
    protocol   text NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    host_port  integer NOT NULL CHECK (host_port BETWEEN 1 AND 65535),
    guest_port integer NOT NULL CHECK (guest_port BETWEEN 1 AND 65535),
    source     cidr,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- For all nodes, so that a virtual machine finds its ports free wherever it moves.
    CONSTRAINT port_forwards_host_key UNIQUE (protocol, host_port)
);
CREATE INDEX port_forwards_tenant_page ON port_forwards (tenant_id, created_at DESC, id DESC);
CREATE INDEX port_forwards_vm ON port_forwards (vm_id);
CREATE INDEX port_forwards_mac ON port_forwards (mac);

-- The version of the policy that was made last for a node; the row is also the lock under which it is made.
CREATE TABLE node_policies (
    node_id uuid PRIMARY KEY,
    version bigint NOT NULL
);

-- What was there before gets the default group of its tenant.
INSERT INTO security_groups (id, tenant_id, owner_id, name, description, is_default)
SELECT DISTINCT ON (tenant_id) gen_random_uuid(), tenant_id, owner_id, 'default', 'Everything out; in from members of this group.', true
FROM vms ORDER BY tenant_id, created_at;
INSERT INTO security_group_rules (id, group_id, direction, protocol, remote_group_id)
SELECT gen_random_uuid(), g.id, r.direction, 'any', CASE r.direction WHEN 'ingress' THEN g.id END
FROM security_groups g CROSS JOIN (VALUES ('ingress'), ('egress')) AS r (direction);
INSERT INTO vm_mac_groups (mac, group_id)
SELECT m.mac, g.id FROM vm_macs m JOIN vms v ON v.id = m.vm_id JOIN security_groups g ON g.tenant_id = v.tenant_id;
UPDATE vms v SET network_config = c.nics
FROM (SELECT w.id, jsonb_agg(e.nic || jsonb_build_object('id', m.id, 'link', 'up', 'security_groups', jsonb_build_array(g.id)) ORDER BY e.n) AS nics
      FROM vms w
      CROSS JOIN LATERAL jsonb_array_elements(w.network_config) WITH ORDINALITY AS e (nic, n)
      JOIN vm_macs m ON m.mac = e.nic ->> 'mac'
      JOIN security_groups g ON g.tenant_id = w.tenant_id
      GROUP BY w.id) c
WHERE c.id = v.id;

-- +goose Down
DROP TABLE node_policies, port_forwards, vm_mac_groups, security_group_rules, security_groups;
ALTER TABLE vm_macs
    DROP CONSTRAINT vm_macs_ip_key, DROP COLUMN id, DROP COLUMN ip, DROP COLUMN ip6, DROP COLUMN link_down, DROP COLUMN in_kbps, DROP COLUMN out_kbps;
DELETE FROM vm_macs m USING vm_networks n WHERE n.id = m.network_id AND n.mode IN ('routed', 'bridge');
DELETE FROM vm_networks WHERE mode IN ('routed', 'bridge');
ALTER TABLE vm_networks
    DROP CONSTRAINT vm_networks_overlap6, DROP CONSTRAINT vm_networks_addresses, DROP CONSTRAINT vm_networks_uplink, DROP CONSTRAINT vm_networks_mode_check,
    ADD CONSTRAINT vm_networks_mode_check CHECK (mode IN ('nat', 'isolated')),
    ALTER COLUMN cidr SET NOT NULL, ALTER COLUMN gateway SET NOT NULL,
    DROP COLUMN cidr6, DROP COLUMN gateway6, DROP COLUMN uplink, DROP COLUMN vlan, DROP COLUMN version;
