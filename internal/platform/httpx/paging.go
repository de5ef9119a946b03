package httpx

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/google/uuid"
)

// The bounds of a list's page.
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

// PageParams are the query parameters every list takes; embed it in a handler's input.
type PageParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many items to answer at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"Where to go on: next_cursor of the page before."`
	Sort   string `query:"sort" enum:"-created_at" default:"-created_at" doc:"Newest first is the one order there is."`
	Fields string `query:"fields" maxLength:"512" pattern:"^[a-z0-9_]+(,[a-z0-9_]+)*$" doc:"Answer only these fields of each item." example:"id,name,state"`
}

// WholeParams are the query parameters of a short list, which is given whole unless a page of it is asked for.
type WholeParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" doc:"How many items to answer at most. Default: all."`
	Cursor string `query:"cursor" maxLength:"512" doc:"Where to go on: next_cursor of the page before."`
	Fields string `query:"fields" maxLength:"512" pattern:"^[a-z0-9_]+(,[a-z0-9_]+)*$" doc:"Answer only these fields of each item." example:"id,name"`
}

// Page is the answer of every list.
type Page[T any] struct {
	Items      []T    `json:"items" nullable:"false" doc:"The items of this page."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Pass it as cursor for the next page; absent on the last one."`
	Count      *int64 `json:"count,omitempty" doc:"How many there are on all pages; only where count=true asks for it."`
}

// projected is a list's answer that can be cut to a few fields of its items.
type projected interface {
	project(fields []string) (any, error)
	item() reflect.Type
}

func (Page[T]) item() reflect.Type { return reflect.TypeFor[T]() }

// itemFields lists the fields that the items of a list's answer can have; nil where the answer is no list.
func itemFields(output reflect.Type) []string {
	body, ok := output.FieldByName("Body")
	if !ok {
		return nil
	}
	list, ok := reflect.Zero(body.Type).Interface().(projected)
	if !ok || list.item().Kind() != reflect.Struct {
		return nil
	}
	return jsonNames(list.item())
}

// jsonNames gives the names that encoding/json writes the fields of a struct under.
func jsonNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			names = append(names, jsonNames(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// knownFields refuses a choice of fields that names one which no item has: it would be left out in silence.
func knownFields(names []string) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if chosen := ctx.Query("fields"); chosen != "" {
			for name := range strings.SplitSeq(chosen, ",") {
				if !slices.Contains(names, name) {
					r, w := humachi.Unwrap(ctx)
					WriteError(w, r, ErrInvalid.WithField("query.fields", "must be fields of the items: "+strings.Join(names, ", "), name))
					return
				}
			}
		}
		next(ctx)
	}
}

func (p Page[T]) project(fields []string) (any, error) {
	cut := Page[map[string]json.RawMessage]{Items: make([]map[string]json.RawMessage, len(p.Items)), NextCursor: p.NextCursor, Count: p.Count}
	for i, item := range p.Items {
		encoded, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(encoded, &cut.Items[i]); err != nil {
			return nil, err
		}
		maps.DeleteFunc(cut.Items[i], func(name string, _ json.RawMessage) bool { return !slices.Contains(fields, name) })
	}
	return cut, nil
}

// selectFields cuts lists to the fields that the request asks for.
func selectFields(ctx huma.Context, _ string, v any) (any, error) {
	list, ok := v.(projected)
	if !ok {
		return v, nil
	}
	fields := ctx.Query("fields")
	if fields == "" {
		return v, nil
	}
	return list.project(strings.Split(fields, ","))
}

// Cursor is a position in a list that is ordered by creation time and id, newest first: keyset paging.
type Cursor struct {
	CreatedAt time.Time `json:"t"`
	ID        uuid.UUID `json:"i"`
	// Sort is the order of the list, and Name where it stands, of lists that know more orders than one.
	Sort string `json:"s,omitempty"`
	Name string `json:"n,omitempty"`
}

// Key makes the text of a position. It is opaque to clients.
func (c Cursor) Key() string {
	b, err := json.Marshal(c)
	if err != nil { // cannot happen: a time within year 9999 and an id
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads what Key wrote. The empty text is the start of the list and gives nil.
func ParseCursor(s string) (*Cursor, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, ErrCursor.Wrap(err)
	}
	var c Cursor
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil || c.CreatedAt.IsZero() {
		return nil, ErrCursor.Wrap(err)
	}
	return &c, nil
}

// wholeSort marks cursors of lists that are read whole: their name is the position of the next item.
const wholeSort = "position"

// Whole cuts the page that is asked for out of a list that has been read whole.
func Whole[T any](params WholeParams, items []T) (Page[T], error) {
	after, err := ParseCursor(params.Cursor)
	if err != nil {
		return Page[T]{}, err
	}
	from := 0
	if after != nil {
		if from, err = strconv.Atoi(after.Name); err != nil || after.Sort != wholeSort || from < 0 {
			return Page[T]{}, ErrCursor
		}
	}
	rest := items[min(from, len(items)):]
	limit := params.Limit
	if limit == 0 {
		limit = len(rest)
	}
	return PageOf(rest, limit, func(T) Cursor {
		return Cursor{CreatedAt: time.Unix(1, 0), Sort: wholeSort, Name: strconv.Itoa(from + limit)}
	}), nil
}

// PageOf cuts limit+1 fetched items to a page: the one item too many tells that there is a next page.
func PageOf[T any](items []T, limit int, key func(T) Cursor) Page[T] {
	page := Page[T]{Items: items}
	if len(items) > limit {
		page.Items = items[:limit]
		page.NextCursor = key(items[limit-1]).Key()
	}
	if page.Items == nil {
		page.Items = []T{}
	}
	return page
}

// List makes a page of what list gives behind a cursor, nil for the first page. It is asked for one item more than the page has.
func List[T any](params PageParams, key func(T) Cursor, list func(after *Cursor, limit int) ([]T, error)) (Page[T], error) {
	after, err := ParseCursor(params.Cursor)
	if err != nil {
		return Page[T]{}, err
	}
	items, err := list(after, params.Limit+1)
	if err != nil {
		return Page[T]{}, err
	}
	return PageOf(items, params.Limit, key), nil
}
