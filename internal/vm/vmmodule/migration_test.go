package vmmodule

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
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
