package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/identity"
)

// cloudAPIKey is one that the server in memory takes.
const cloudAPIKey = "nck_aaaaaaaaaaaa_good"

func (c *cloud) handleAPIKeys(handle register) {
	const keys, accounts = "/api/v1/api-keys", "/api/v1/service-accounts"
	key := func(h func(http.ResponseWriter, *http.Request, *auth.APIKey)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, k := range c.keys {
				if k.ID.String() == r.PathValue("id") {
					h(w, r, k)
					return
				}
			}
			refuse(w, auth.ErrAPIKeyNotFound)
		}
	}
	tell := func(w http.ResponseWriter, status int, k *auth.APIKey) {
		answer(w, status, apiclient.NewAPIKey{APIKey: *k, Key: fmt.Sprintf("%s_secret%d", k.Prefix, k.Version)})
	}
	handle("POST "+keys, func(w http.ResponseWriter, r *http.Request) {
		var in apiclient.APIKeyCreate
		_ = json.NewDecoder(r.Body).Decode(&in)
		if slices.Contains(in.Permissions, "user:write") {
			refuse(w, auth.ErrGrantExceedsOwn)
			return
		}
		id := c.id()
		k := &auth.APIKey{ID: id, Name: in.Name, Prefix: "nck_" + strings.Repeat("b", 11) + id.String()[35:], UserID: owner, Username: "ada", TenantID: tenant, Permissions: in.Permissions,
			Scope: identity.ScopeTenant, ExpiresAt: in.ExpiresAt, Version: 1, CreatedAt: day, UpdatedAt: day}
		for _, u := range c.accounts {
			if u.ID == in.UserID {
				k.UserID, k.Username = u.ID, u.Username
			}
		}
		c.keys = append([]*auth.APIKey{k}, c.keys...)
		tell(w, 201, k)
	})
	handle("GET "+keys, func(w http.ResponseWriter, r *http.Request) {
		items, q := []*auth.APIKey{}, r.URL.Query()
		for _, k := range c.keys {
			if (q.Get("prefix") == "" || q.Get("prefix") == k.Prefix) && (q.Get("user_id") == "" || q.Get("user_id") == k.UserID.String()) {
				items = append(items, k)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("GET "+keys+"/{id}", key(func(w http.ResponseWriter, _ *http.Request, k *auth.APIKey) { answer(w, 200, k) }))
	handle("POST "+keys+"/{id}/rotate", key(func(w http.ResponseWriter, r *http.Request, k *auth.APIKey) {
		var in apiclient.APIKeyRotate
		_ = json.NewDecoder(r.Body).Decode(&in)
		k.Version, k.RotatedAt, k.OldSecretsUntil = k.Version+1, &day, nil
		if in.OverlapSeconds != nil && *in.OverlapSeconds > 0 {
			until := day.Add(time.Duration(*in.OverlapSeconds) * time.Second)
			k.OldSecretsUntil = &until
		}
		tell(w, 200, k)
	}))
	handle("DELETE "+keys+"/{id}", key(func(w http.ResponseWriter, _ *http.Request, gone *auth.APIKey) {
		c.keys = slices.DeleteFunc(c.keys, func(k *auth.APIKey) bool { return k == gone })
		w.WriteHeader(204)
	}))

	account := func(h func(http.ResponseWriter, *http.Request, *auth.User)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, u := range c.accounts {
				if u.ID.String() == r.PathValue("id") {
					h(w, r, u)
					return
				}
			}
			refuse(w, auth.ErrNoServiceAccount)
		}
	}
	list := func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"items": append([]*auth.User{}, c.accounts...)})
	}
	handle("GET "+accounts, list)
	handle("GET /api/v1/users", list)
	handle("POST "+accounts, func(w http.ResponseWriter, r *http.Request) {
		var in apiclient.ServiceAccountCreate
		_ = json.NewDecoder(r.Body).Decode(&in)
		u := &auth.User{ID: c.id(), Kind: auth.KindService, Username: in.Name, Description: in.Description, Role: in.Role, TenantID: tenant, Version: 1, CreatedAt: day, UpdatedAt: day}
		if u.Role == "" {
			u.Role = auth.RoleViewer
		}
		c.accounts = append([]*auth.User{u}, c.accounts...)
		answer(w, 201, u)
	})
	handle("GET "+accounts+"/{id}", account(func(w http.ResponseWriter, _ *http.Request, u *auth.User) { answer(w, 200, u) }))
	handle("PATCH "+accounts+"/{id}", account(func(w http.ResponseWriter, r *http.Request, u *auth.User) {
		var in apiclient.ServiceAccountUpdate
		_ = json.NewDecoder(r.Body).Decode(&in)
		if in.Role != nil {
			u.Role = *in.Role
		}
		if in.Description != nil {
			u.Description = *in.Description
		}
		if in.Disabled != nil {
			u.Disabled = *in.Disabled
		}
		answer(w, 200, u)
	}))
	handle("DELETE "+accounts+"/{id}", account(func(w http.ResponseWriter, _ *http.Request, gone *auth.User) {
		c.accounts = slices.DeleteFunc(c.accounts, func(u *auth.User) bool { return u == gone })
		w.WriteHeader(204)
	}))
}

func TestParseEnd(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for text, want := range map[string]string{
		"90d": "2026-04-02T03:04:05Z", "12h": "2026-01-02T15:04:05Z", "2027-01-31": "2027-01-31T00:00:00Z", "2027-01-31T12:00:00+01:00": "2027-01-31T12:00:00+01:00",
	} {
		if got, err := parseEnd(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	if got, err := parseEnd("", now); got != nil || err != nil {
		t.Errorf("no end: %v, %v", got, err)
	}
	for _, text := range []string{"0", "0d", "-1d", "-5h", "90", "soon", "d", "99999999d", "2027-13-01"} {
		if got, err := parseEnd(text, now); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}
