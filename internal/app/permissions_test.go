package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// builtInRole is a built-in role as the migrations leave it.
type builtInRole struct {
	name, scope string
	permissions []string
}

func builtInRoles(t *testing.T) []builtInRole {
	t.Helper()
	migrations, err := db.Migrations("auth")
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.New(t, pgtest.Schema{Name: "auth", Migrations: migrations}).Pool("auth")
	rows, err := pool.Query(context.Background(), `SELECT r.name, r.scope, array_agg(p.permission::text ORDER BY p.permission)
		FROM roles r JOIN permissions p ON p.role_id = r.id WHERE r.tenant_id IS NULL GROUP BY r.id ORDER BY r.id`)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r builtInRole, err error) {
		return r, row.Scan(&r.name, &r.scope, &r.permissions)
	})
	if err != nil || len(roles) < 5 {
		t.Fatalf("built-in roles %v: %v", roles, err)
	}
	return roles
}

// TestPermissionReferenceIsUpToDate keeps docs/permissions.md: which built-in role may use which route.
func TestPermissionReferenceIsUpToDate(t *testing.T) {
	roles := builtInRoles(t)
	type route struct {
		method, path, permission string
		owned                    bool
	}
	var routes []route
	for _, s := range built(t).gateway.Surfaces() {
		for _, r := range s.Routes() {
			routes = append(routes, route{r.Method, r.Path, r.Permission, r.Owned})
		}
	}
	slices.SortFunc(routes, func(a, b route) int {
		return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
	})
	routes = slices.Compact(routes)
	var b strings.Builder
	b.WriteString("# Permissions\n\nWhich built-in role may use which route; written by `make gen`. [rbac.md](rbac.md) says how roles are given, and how to make others.\n\n" +
		"`●` the role holds the permission in its tenant, `●●` in every tenant, `○` for what the user owns only. *own* marks routes that also serve\n" +
		"who holds the permission with `:own`. *public* routes need no login, *authenticated* ones need nothing else.\n\n| route | permission | own |")
	for _, r := range roles {
		b.WriteString(" " + r.name + " |")
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(roles)) + "\n")
	for _, rt := range routes {
		own := ""
		if rt.owned {
			own = "own"
		}
		fmt.Fprintf(&b, "| `%s %s` | `%s` | %s |", rt.method, rt.path, rt.permission, own)
		for _, role := range roles {
			b.WriteString(" " + mark(role, rt.permission, rt.owned) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## What the roles hold\n\n")
	for _, r := range roles {
		fmt.Fprintf(&b, "- **%s** (%s): `%s`\n", r.name, r.scope, strings.Join(r.permissions, "` `"))
	}
	const file = "../../docs/permissions.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is stale; run 'make gen': %v", file, err)
	}
}

func mark(r builtInRole, permission string, owned bool) string {
	p := identity.Principal{Permissions: r.permissions, Scope: identity.Scope(r.scope)}
	switch {
	case permission == identity.Public, permission == identity.Authenticated:
		return "●"
	case p.AllowsPlatform(permission):
		return "●●"
	case p.Allows(permission):
		return "●"
	case owned && p.AllowsOwn(permission):
		return "○"
	}
	return ""
}

// TestPermissionsAreWellFormed finds permissions that routes ask for and that nobody could be given.
func TestPermissionsAreWellFormed(t *testing.T) {
	for _, permission := range built(t).permissions() {
		if permission != identity.Public && permission != identity.Authenticated && (!identity.ValidPermission(permission) || strings.Contains(permission, "*")) {
			t.Errorf("a route asks for %q, which cannot be granted by name", permission)
		}
	}
}
