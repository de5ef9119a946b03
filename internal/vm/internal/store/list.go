package store

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Sort is the order of a list of virtual machines.
type Sort string

// The orders.
const (
	SortNewest   Sort = "-created_at"
	SortOldest   Sort = "created_at"
	SortName     Sort = "name"
	SortNameDown Sort = "-name"
)

// Filter narrows a list of virtual machines; what is zero does not.
type Filter struct {
	TenantID   *uuid.UUID
	OwnerID    *uuid.UUID // of those that the caller may see
	Owner      *uuid.UUID // of those that are asked for
	NodeID     *uuid.UUID
	ImageID    *uuid.UUID
	NetworkID  *uuid.UUID // of one that they have an interface on
	Name       string     // exact
	NamePrefix string
	State      vm.State
	Tags       []Tag
	Text       string // beginnings of words in name, description or tags
	Sort       Sort   // empty: SortNewest
	After      *After
	Limit      int
}

// Tag is one that all must have.
type Tag struct {
	Key   string
	Value *string // nil: any
}

// After is the last item of the page before.
type After struct {
	CreatedAt time.Time
	Name      string
	ID        uuid.UUID
}

// query is a list in the making. Its text differs with its filters, so that each is planned for what it asks.
type query struct {
	where []string
	args  []any
}

func (q *query) and(condition string, args ...any) {
	for _, arg := range args {
		q.args = append(q.args, arg)
		condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(q.args)), 1)
	}
	q.where = append(q.where, condition)
}

func (q *query) text(columns, tail string) string {
	text := "SELECT " + columns + " FROM vms v"
	if len(q.where) > 0 {
		text += " WHERE " + strings.Join(q.where, " AND ")
	}
	return text + tail
}

func queryOf(f Filter) *query {
	q := &query{}
	for _, c := range []struct {
		condition string
		id        *uuid.UUID
	}{{"v.tenant_id = ?", f.TenantID}, {"v.owner_id = ?", f.OwnerID}, {"v.owner_id = ?", f.Owner}, {"v.node_id = ?", f.NodeID}, {"v.image_id = ?", f.ImageID}} {
		if c.id != nil {
			q.and(c.condition, *c.id)
		}
	}
	if f.NetworkID != nil {
		q.and("EXISTS (SELECT 1 FROM vm_macs m WHERE m.vm_id = v.id AND m.network_id = ?)", *f.NetworkID)
	}
	if f.Name != "" {
		q.and("v.name = ?", f.Name)
	}
	if f.NamePrefix != "" { // '{' follows 'z', the last that a name may have
		q.and(`v.name COLLATE "C" >= ? AND v.name COLLATE "C" < ?`, f.NamePrefix, f.NamePrefix+"{")
	}
	if f.State != "" {
		q.and("v.state = ?::vm_state_enum", string(f.State))
	}
	if words := wordsOf(f.Text); words != "" {
		q.and("vm_text(v.name, v.description, v.tags) @@ to_tsquery('pg_catalog.simple', ?)", words)
	} else if f.Text != "" {
		q.and("false") // nothing that could be found
	}
	return q
}

// wordsOf makes a query for the beginnings of all words of a text.
func wordsOf(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, word := range words {
		words[i] = "'" + word + "':*"
	}
	return strings.Join(words, " & ")
}

// tagged narrows to tags. With the tenant and the order by age, the table of tags leads, by the first of them that has a value; for the
// others it is asked for each candidate.
func (q *query) tagged(f Filter) (joined bool) {
	for _, tag := range f.Tags {
		switch {
		case !joined && f.TenantID != nil && tag.Value != nil && f.Sort != SortName && f.Sort != SortNameDown:
			q.and("t.tenant_id = ? AND t.key = ? AND t.value = ?", *f.TenantID, tag.Key, *tag.Value)
			joined = true
		case tag.Value == nil:
			q.and("EXISTS (SELECT 1 FROM vm_tags o WHERE o.vm_id = v.id AND o.key = ?)", tag.Key)
		default:
			q.and("EXISTS (SELECT 1 FROM vm_tags o WHERE o.vm_id = v.id AND o.key = ? AND o.value = ?)", tag.Key, *tag.Value)
		}
	}
	return joined
}

// ListVMs lists virtual machines.
func (s *Store) ListVMs(ctx context.Context, f Filter) ([]Record, error) {
	q := queryOf(f)
	created, id := "v.created_at", "v.id"
	joined := q.tagged(f)
	if joined {
		created, id = "t.created_at", "t.vm_id"
	}
	order := created + " DESC, " + id + " DESC"
	comparison, key := "<", created
	switch f.Sort {
	case SortOldest:
		order, comparison = created+", "+id, ">"
	case SortName:
		order, comparison, key = `v.name COLLATE "C", v.id`, ">", `v.name COLLATE "C"`
	case SortNameDown:
		order, comparison, key = `v.name COLLATE "C" DESC, v.id DESC`, "<", `v.name COLLATE "C"`
	}
	if f.After != nil {
		position := any(f.After.CreatedAt)
		if f.Sort == SortName || f.Sort == SortNameDown {
			position = f.After.Name
		}
		q.and("("+key+", "+id+") "+comparison+" (?, ?)", position, f.After.ID)
	}
	text := q.text("v.*", fmt.Sprintf(" ORDER BY %s LIMIT %d", order, f.Limit))
	if joined {
		text = strings.Replace(text, "FROM vms v", "FROM vm_tags t JOIN vms v ON v.id = t.vm_id", 1)
	}
	rows, err := s.pool.Query(ctx, text, append([]any{pgx.QueryExecModeCacheDescribe}, q.args...)...)
	if err != nil {
		return nil, fmt.Errorf("list virtual machines: %w", pg.Map(err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[vmdb.Vm])
	if err != nil {
		return nil, fmt.Errorf("list virtual machines: %w", pg.Map(err))
	}
	return recordsOf(list)
}

// CountVMs counts all that a list holds on all its pages.
func (s *Store) CountVMs(ctx context.Context, f Filter) (int64, error) {
	q := queryOf(f)
	joined := q.tagged(f)
	text := q.text("count(*)", "")
	if joined {
		text = strings.Replace(text, "FROM vms v", "FROM vm_tags t JOIN vms v ON v.id = t.vm_id", 1)
	}
	var n int64
	if err := s.pool.QueryRow(ctx, text, append([]any{pgx.QueryExecModeCacheDescribe}, q.args...)...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count virtual machines: %w", pg.Map(err))
	}
	return n, nil
}
