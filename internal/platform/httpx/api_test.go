package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

type thingBody struct {
	Name     string `json:"name" minLength:"1" maxLength:"10"`
	Count    int    `json:"count" minimum:"1" maximum:"10"`
	Password string `json:"password,omitempty" maxLength:"3"`
}

type ThingPath struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func things(t *testing.T) *API {
	t.Helper()
	a := New("test")
	type input struct {
		ThingPath
		PageParams
		Body thingBody
	}
	type output struct{ Body thingBody }
	Handle(a, Op{ID: "thing-put", Method: http.MethodPost, Path: "/things/{id}", Permission: "thing:write", Summary: "Put a thing", MaxBody: 1024},
		func(_ context.Context, in *input) (*output, error) {
			switch in.Body.Name {
			case "away":
				return nil, errs.New(errs.Unavailable, "test.away", "it is away").WithMeta(MetaRetryAfter, "7")
			case "broken":
				return nil, errors.New("a secret of the inside")
			}
			if in.ID == uuid.Nil {
				return nil, errs.New(errs.NotFound, "test.not_found", "there is none")
			}
			return &output{Body: in.Body}, nil
		})
	return a
}

func TestOrderOfRefusal(t *testing.T) {
	a := things(t)
	writer := identity.Principal{Permissions: []string{"thing:*"}}
	good, path := `{"name":"a","count":1}`, "/things/"+uuid.NewString()
	for name, test := range map[string]struct {
		who        *identity.Principal
		path, body string
		kind       string
		status     int
		code       string
	}{
		"all is well":                    {&writer, path, good, "application/json", 200, ""},
		"nobody, and all else is wrong":  {nil, "/things/x?limit=0", `{`, "text/x", 401, "auth.unauthenticated"},
		"no permission, all else wrong":  {&identity.Principal{Permissions: []string{"thing:read"}}, "/things/x", `{`, "text/x", 403, "auth.forbidden"},
		"too large, and malformed":       {&writer, path, `{` + strings.Repeat(" ", 2000), "application/json", 413, "request.too_large"},
		"wrong type of content":          {&writer, path, good, "text/x", 415, "request.unsupported_media_type"},
		"malformed, and a bad parameter": {&writer, path + "?limit=0", `{"name":`, "application/json", 400, "request.malformed"},
		"something behind the value":     {&writer, path, good + "x", "application/json", 400, "request.malformed"},
		"no body":                        {&writer, path, "", "application/json", 400, "request.malformed"},
		"unknown field":                  {&writer, path, `{"name":"a","count":1,"x":1}`, "application/json", 422, "request.invalid"},
		"wrong type":                     {&writer, path, `{"name":1,"count":1}`, "application/json", 422, "request.invalid"},
		"over the maximum":               {&writer, path, `{"name":"a","count":11}`, "application/json", 422, "request.invalid"},
		"unknown parameter":              {&writer, path + "?colour=red", good, "application/json", 422, "request.invalid"},
		"NUL in a string":                {&writer, path, `{"name":"a\u0000","count":1}`, "application/json", 422, "request.invalid"},
		"id is no uuid":                  {&writer, "/things/x", good, "application/json", 422, "request.invalid"},
		"absent":                         {&writer, "/things/" + uuid.Nil.String(), good, "application/json", 404, "test.not_found"},
		"away":                           {&writer, path, `{"name":"away","count":1}`, "application/json", 503, "test.away"},
		"broken":                         {&writer, path, `{"name":"broken","count":1}`, "application/json", 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, test.path, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.kind)
			ctx := WithRequest(t.Context(), "req-1", "/original")
			if test.who != nil {
				ctx = identity.With(ctx, *test.who)
			}
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r.WithContext(ctx))
			if w.Code != test.status {
				t.Fatalf("got %d, want %d: %s", w.Code, test.status, w.Body)
			}
			if test.code == "" {
				return
			}
			var p errs.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if p.Code != test.code || p.Status != test.status || p.RequestID != "req-1" || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %+v as %s", p, w.Header().Get("Content-Type"))
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the cause is sent: %s", w.Body)
			}
			if test.status == 503 && w.Header().Get("Retry-After") != "7" {
				t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
			}
		})
	}
}

// What a client sent comes back cut, and secrets not at all.
func TestValuesInErrors(t *testing.T) {
	a := things(t)
	body := `{"name":"` + strings.Repeat("n", 200) + `","count":99,"password":"hunter2"}`
	r := httptest.NewRequest(http.MethodPost, "/things/"+uuid.NewString(), strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r.WithContext(identity.With(t.Context(), identity.Principal{Permissions: []string{"*"}})))
	var p errs.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.Errors) != 3 {
		t.Fatalf("got %s: %v", w.Body, err)
	}
	for _, f := range p.Errors {
		switch {
		case f.Location == "body.password" && f.Value != "":
			t.Errorf("a secret comes back: %+v", f)
		case f.Location == "body.name" && f.Value != strings.Repeat("n", 64):
			t.Errorf("the value has %d bytes", len(f.Value))
		case f.Location == "body.count" && f.Value != "99":
			t.Errorf("the value is %q", f.Value)
		}
	}
}

// Whatever a client says that it accepts, it is answered in JSON.
func TestAcceptIsNoMatter(t *testing.T) {
	a := things(t)
	for _, accept := range []string{"", "*/*", "text/html", "application/json;q=0", ";", "a;", "a;,", ",;,", `text/html;q=0.9;charset="windows-1252";,*/*;q=0.8`, "\xff", "a;q"} {
		r := httptest.NewRequest(http.MethodPost, "/things/"+uuid.NewString(), strings.NewReader(`{"name":"a","count":1}`))
		r.Header["Accept"], r.Header["Content-Type"] = []string{accept}, []string{"application/json"}
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r.WithContext(identity.With(t.Context(), identity.Principal{Permissions: []string{"thing:*"}})))
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%q: %d %s", accept, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

func TestUnknownRouteAndMethod(t *testing.T) {
	a := things(t)
	for path, want := range map[string]int{"/nothing": 404, "/things/" + uuid.NewString(): 405} {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

func TestHiddenInputPanics(t *testing.T) {
	type hidden struct {
		ID string `path:"id"`
	}
	type input struct{ hidden }
	defer func() {
		if recover() == nil {
			t.Error("an input whose fields are never read is accepted")
		}
	}()
	Handle(New("test"), Op{ID: "x", Method: http.MethodGet, Path: "/x/{id}", Permission: identity.Public, Summary: "x"},
		func(context.Context, *input) (*struct{}, error) { return nil, nil })
}

func TestCursor(t *testing.T) {
	c := Cursor{CreatedAt: time.Now().UTC(), ID: uuid.New()}
	got, err := ParseCursor(c.Key())
	if err != nil || !got.CreatedAt.Equal(c.CreatedAt) || got.ID != c.ID {
		t.Errorf("got %+v: %v", got, err)
	}
	if got, err := ParseCursor(""); got != nil || err != nil {
		t.Errorf("empty: %+v %v", got, err)
	}
}

func TestPagesOfWholeLists(t *testing.T) {
	items := []string{"a", "b", "c", "d", "e"}
	for limit, want := range map[int]string{0: "abcde", 1: "a|b|c|d|e", 2: "ab|cd|e", 4: "abcd|e", 5: "abcde", 9: "abcde"} {
		var pages []string
		for params := (WholeParams{Limit: limit}); ; {
			page, err := Whole(params, items)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, strings.Join(page.Items, ""))
			if params.Cursor = page.NextCursor; params.Cursor == "" {
				break
			}
		}
		if got := strings.Join(pages, "|"); got != want {
			t.Errorf("pages of %d are %s, want %s", limit, got, want)
		}
	}
	// A list that has become shorter meanwhile, and cursors of other lists.
	beyond := Cursor{CreatedAt: time.Unix(1, 0), Sort: wholeSort, Name: "7"}.Key()
	if page, err := Whole(WholeParams{Cursor: beyond}, items); err != nil || len(page.Items) != 0 || page.Items == nil || page.NextCursor != "" {
		t.Errorf("beyond the end: %+v, %v", page, err)
	}
	for _, foreign := range []Cursor{{CreatedAt: time.Now(), ID: uuid.New()}, {CreatedAt: time.Now(), Sort: "name", Name: "1"},
		{CreatedAt: time.Now(), Sort: wholeSort, Name: "x"}, {CreatedAt: time.Now(), Sort: wholeSort, Name: "-1"}} {
		if _, err := Whole(WholeParams{Cursor: foreign.Key()}, items); !errors.Is(err, ErrCursor) {
			t.Errorf("%+v: %v", foreign, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(Cursor{CreatedAt: time.Unix(1, 0), ID: uuid.New()}.Key())
	f.Add("x")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCursor(s); err != nil && !errors.Is(err, ErrCursor) || err == nil && s != "" && c.CreatedAt.IsZero() {
			t.Errorf("%q: %+v %v", s, c, err)
		}
	})
}
