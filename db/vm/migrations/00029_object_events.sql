-- Events of volumes, snapshots, images, networks, security groups and port forwards beside those of machines: a tenant reads both as one stream.

-- +goose Up
CREATE INDEX outbox_tenant_stream ON outbox ((payload ->> 'tenant_id'), seq) WHERE subject IN ('vm.events', 'vm.objects');
DROP INDEX outbox_vm_events_tenant;

-- +goose Down
CREATE INDEX outbox_vm_events_tenant ON outbox ((payload ->> 'tenant_id'), seq) WHERE subject = 'vm.events';
DROP INDEX outbox_tenant_stream;
