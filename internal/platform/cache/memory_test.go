package cache

import (
	"fmt"
	"testing"
	"time"
)

func TestMemory(t *testing.T) { suite(t, NewMemory(10_000)) }

func TestMemoryForgetsWhenFull(t *testing.T) {
	c := NewMemory(100)
	defer c.Close()
	const stored = 10_000
	for i := range stored {
		must(t, c.Set(t.Context(), fmt.Sprint(i), []byte("x"), time.Hour))
	}
	poll(t, "room", func() bool { return c.entries.EstimatedSize() <= 100 })
	found := 0
	for i := range stored {
		if _, ok, err := c.Get(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		} else if ok {
			found++
		}
	}
	if found == 0 || found > 100 {
		t.Errorf("%d entries in a cache of 100", found)
	}
}

func TestMemoryOfBytes(t *testing.T) { suite(t, NewMemoryBytes(10<<20)) }

func TestMemoryForgetsWhenItsBytesAreFull(t *testing.T) {
	c := NewMemoryBytes(1 << 20)
	defer c.Close()
	value := make([]byte, 10_000)
	for i := range 1000 {
		must(t, c.Set(t.Context(), fmt.Sprint(i), value, time.Hour))
	}
	poll(t, "room", func() bool { return c.entries.EstimatedSize() <= 110 })
}

func BenchmarkMemory(b *testing.B) { benchmark(b, NewMemory(1000)) }

func benchmark(b *testing.B, c Cache) {
	b.Cleanup(func() { c.Close() })
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprint("bench", i)
		if err := c.Set(b.Context(), keys[i], []byte("value"), time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok, err := c.Get(b.Context(), keys[i%len(keys)]); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("allow", func(b *testing.B) {
		limit := Limit{Rate: 1000, Per: time.Second, Burst: 1000}
		for i := 0; b.Loop(); i++ {
			if _, err := c.Allow(b.Context(), "limit "+keys[i%len(keys)], limit); err != nil {
				b.Fatal(err)
			}
		}
	})
}
