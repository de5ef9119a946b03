package cache

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func testVersions(t *testing.T, c Cache) {
	ctx := t.Context()
	large := int64(math.MaxInt64 - 2) // a double does not tell it from its neighbours
	for _, step := range []struct {
		version int64
		value   string
		want    string
	}{
		{2, "two", "two"}, {1, "one, late", "two"}, {10, "ten", "ten"}, {9, "nine, late", "ten"}, {10, "ten again", "ten again"},
		{large, "large", "large"}, {large - 1, "below", "large"}, {large + 1, "", ""}, {large, "large, late", ""},
	} {
		must(t, c.SetNewer(ctx, time.Minute, Versioned{"versioned", step.version, []byte(step.value)}, Versioned{"versioned too", 1, []byte{0, 255}}))
		got, err := c.GetVersioned(ctx, "versioned", "never there", "versioned too")
		must(t, err)
		if len(got) != 3 || string(got[0].Value) != step.want || got[0].Version < step.version || got[1].Version != 0 || got[1].Value != nil ||
			got[2].Version != 1 || !bytes.Equal(got[2].Value, []byte{0, 255}) || got[2].Key != "versioned too" {
			t.Errorf("after version %d: %+v", step.version, got)
		}
	}
	if none, err := c.GetVersioned(ctx); err != nil || len(none) != 0 {
		t.Errorf("of no keys: %v %v", none, err)
	}
	must(t, c.SetNewer(ctx, time.Minute))
	if c.SetNewer(ctx, time.Minute, Versioned{"versioned", 0, nil}) == nil || c.SetNewer(ctx, 0, Versioned{"versioned", 1, nil}) == nil {
		t.Error("a version or a time to live of 0 was taken")
	}
}

// testVersionsExact: whatever the order of writers, the highest version is what stays.
func testVersionsExact(t *testing.T, c Cache) {
	const versions = 200
	order := rand.Perm(versions)
	var writers sync.WaitGroup
	for part := range 8 {
		writers.Go(func() {
			for i := part; i < versions; i += 8 {
				v := int64(order[i] + 1)
				if err := c.SetNewer(t.Context(), time.Minute, Versioned{"contended", v, fmt.Append(nil, v)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	got, err := c.GetVersioned(t.Context(), "contended")
	must(t, err)
	if got[0].Version != versions || string(got[0].Value) != fmt.Sprint(versions) {
		t.Errorf("what stays is %+v", got[0])
	}
}

func testVersionsExpire(t *testing.T, c Cache) {
	must(t, c.SetNewer(t.Context(), 50*time.Millisecond, Versioned{"short", 5, []byte("x")}))
	poll(t, "the expiry of a version", func() bool {
		got, err := c.GetVersioned(t.Context(), "short")
		must(t, err)
		return got[0].Version == 0
	})
	must(t, c.SetNewer(t.Context(), time.Minute, Versioned{"short", 1, []byte("y")}))
	if got, err := c.GetVersioned(t.Context(), "short"); err != nil || got[0].Version != 1 {
		t.Errorf("after the expiry of a higher version: %+v %v", got, err)
	}
}
