package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// Object is one object of the API: typed, and as the server sent it.
type Object[T any] struct {
	Value T
	Raw   json.RawMessage
}

// UnmarshalJSON keeps the text beside the value.
func (o *Object[T]) UnmarshalJSON(text []byte) error {
	o.Raw = bytes.Clone(text)
	return json.Unmarshal(text, &o.Value)
}

// MarshalJSON gives the text back.
func (o Object[T]) MarshalJSON() ([]byte, error) {
	if o.Raw == nil {
		return json.Marshal(o.Value)
	}
	return o.Raw, nil
}

// maxPage is the most items that the API gives at once.
const maxPage = 500

// list gives the items of a list one by one and fetches its pages as they are needed. most bounds the number of items; 0: all.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, most int) iter.Seq2[Object[T], error] {
	return func(yield func(Object[T], error) bool) {
		q := url.Values{}
		for name, values := range query {
			if len(values) > 0 && values[0] != "" {
				q[name] = values
			}
		}
		for seen, cursor := 0, ""; ; {
			limit := maxPage
			if most > 0 {
				limit = min(maxPage, most-seen)
			}
			q.Set("limit", strconv.Itoa(limit))
			var page struct {
				Items []Object[T] `json:"items"`
				Next  string      `json:"next_cursor"`
			}
			if err := c.json(ctx, call{method: http.MethodGet, path: path, query: q}, &page); err != nil {
				yield(Object[T]{}, err)
				return
			}
			for _, item := range page.Items {
				if seen++; !yield(item, nil) || seen == most {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if page.Next == cursor {
				yield(Object[T]{}, protocolError("the list %s goes round in a circle", path))
				return
			}
			cursor = page.Next
			q.Set("cursor", cursor)
		}
	}
}

// listWhole is list for lists that have one page only and take no parameters.
func listWhole[T any](ctx context.Context, c *Client, path string) iter.Seq2[Object[T], error] {
	return func(yield func(Object[T], error) bool) {
		var page struct {
			Items []Object[T] `json:"items"`
		}
		if err := c.json(ctx, call{method: http.MethodGet, path: path}, &page); err != nil {
			yield(Object[T]{}, err)
			return
		}
		for _, item := range page.Items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Collect gathers a list. It stops at the first error.
func Collect[T any](items iter.Seq2[Object[T], error]) ([]Object[T], error) {
	all := []Object[T]{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

// get reads one object.
func get[T any](ctx context.Context, c *Client, path string) (Object[T], error) {
	var o Object[T]
	err := c.json(ctx, call{method: http.MethodGet, path: path}, &o)
	return o, err
}

// post asks for something once, however often it has to be sent.
func post[T any](ctx context.Context, c *Client, path string, body any) (Object[T], error) {
	var o Object[T]
	err := c.json(ctx, call{method: http.MethodPost, path: path, body: body, key: newKey()}, &o)
	return o, err
}

// patch changes an object.
func patch[T any](ctx context.Context, c *Client, path string, body any) (Object[T], error) {
	var o Object[T]
	err := c.json(ctx, call{method: http.MethodPatch, path: path, body: body}, &o)
	return o, err
}
