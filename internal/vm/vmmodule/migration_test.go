package vmmodule

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// The migration holds copies of the tables that platform packages describe. Once it has landed, a change there is a new migration, and
// this test then names that one.
func TestMigrationHasThePlatformsTables(t *testing.T) {
	migrations, err := db.Migrations(schema)
	if err != nil {
		t.Fatal(err)
	}
	content, err := fs.ReadFile(migrations, "00002_platform.sql")
	if err != nil {
		t.Fatal(err)
	}
	for name, ddl := range map[string]string{"operation": operation.Schema, "outbox": outbox.Schema, "idempotency": idempotency.Schema} {
		if !strings.Contains(string(content), strings.TrimSpace(ddl)) {
			t.Errorf("the tables of %s are not what their package says", name)
		}
	}
	if content, err = fs.ReadFile(migrations, "00024_trace.sql"); err != nil || !strings.Contains(string(content), strings.TrimSpace(operation.SchemaTrace)) {
		t.Errorf("the trace of operations is not what their package says: %v", err)
	}
}

// The blueprint names the module's tables, and the columns of the first.
func TestTheBlueprintsTables(t *testing.T) {
	migrations, err := db.Migrations(schema)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.New(t, pgtest.Schema{Name: schema, Migrations: migrations}).Pool(schema)
	rows, err := pool.Query(t.Context(), `SELECT table_name || '.' || column_name, udt_name || ' ' || is_nullable FROM information_schema.columns WHERE table_schema = $1`, schema)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error { have[name] = kind; return nil }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"vms.id": "uuid NO", "vms.name": "text NO", "vms.state": "vm_state_enum NO", "vms.hypervisor_type": "text NO", "vms.node_id": "uuid YES", "vms.owner_id": "uuid NO",
		"vms.tenant_id": "uuid NO", "vms.resource_config": "jsonb NO", "vms.network_config": "jsonb NO", "vms.storage_config": "jsonb NO",
		"vms.created_at": "timestamptz NO", "vms.updated_at": "timestamptz NO", "vm_templates.id": "uuid NO", "vm_snapshots.id": "uuid NO", "vm_networks.id": "uuid NO",
	} {
		if have[name] != want {
			t.Errorf("%s is %q, want %q", name, have[name], want)
		}
	}
	var states []string
	if err := pool.QueryRow(t.Context(), `SELECT enum_range(NULL::vm_state_enum)::text[]`).Scan(&states); err != nil {
		t.Fatal(err)
	}
	if want := []string{"creating", "running", "stopped", "paused", "migrating", "error"}; !slices.Equal(states, want) {
		t.Errorf("the states are %v, want %v", states, want)
	}
}
