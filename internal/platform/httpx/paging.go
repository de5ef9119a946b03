package httpx

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

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
}

// Page is the answer of every list.
type Page[T any] struct {
	Items      []T    `json:"items" nullable:"false" doc:"The items of this page."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Pass it as cursor for the next page; absent on the last one."`
}

// Cursor is a position in a list that is ordered by creation time and id, newest first: keyset paging.
type Cursor struct {
	CreatedAt time.Time `json:"t"`
	ID        uuid.UUID `json:"i"`
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
