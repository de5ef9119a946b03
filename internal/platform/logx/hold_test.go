package logx_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/logx"
)

// sink is where a log ends: it counts writes, and can fail.
type sink struct {
	mu     sync.Mutex // guards what follows
	text   strings.Builder
	writes int
	fails  error
	told   chan struct{} // a value for each write
}

func newSink() *sink { return &sink{told: make(chan struct{}, 10_000)} }

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.told <- struct{}{}
	if s.fails != nil {
		return 0, s.fails
	}
	return s.text.Write(p)
}

func (s *sink) seen() (text string, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.writes
}

func TestHeldLinesAreWrittenTogetherAndInTime(t *testing.T) {
	s := newSink()
	h := logx.Hold(s, time.Millisecond)
	log, _, err := logx.New(logx.Options{Writer: h})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("first")
	<-s.told // without another line, and without Close
	log.Info("second")
	<-s.told
	if text, _ := s.seen(); strings.Count(text, "\n") != 2 {
		t.Errorf("written: %q", text)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestWarningsTakeAllBeforeThemAlong(t *testing.T) {
	s := newSink()
	h := logx.Hold(s, time.Hour)
	log, _, err := logx.New(logx.Options{Writer: h})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("one")
	if text, _ := s.seen(); text != "" {
		t.Errorf("not held: %q", text)
	}
	logx.ForModule(log, "vm").Warn("two")
	text, writes := s.seen()
	if writes != 1 || strings.Index(text, "one") > strings.Index(text, "two") || strings.Count(text, "\n") != 2 {
		t.Errorf("after %d writes: %q", writes, text)
	}
	log.Info("three")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if text, _ = s.seen(); !strings.Contains(text, "three") {
		t.Errorf("lost at the end: %q", text)
	}
	log.Info("four") // whoever still logs then is heard as well
	if text, _ = s.seen(); !strings.Contains(text, "four") {
		t.Errorf("lost after the end: %q", text)
	}
}

func TestNoLineIsLostOrBrokenUnderLoad(t *testing.T) {
	s := newSink()
	h := logx.Hold(s, time.Hour)
	const writers, lines = 8, 2000
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(h, "%d %d %s\n", w, i, strings.Repeat("x", i%100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	text, writes := s.seen()
	next := [writers]int{}
	for line := range strings.Lines(text) {
		var w, i int
		if _, err := fmt.Sscan(line, &w, &i); err != nil || next[w] != i || !strings.HasSuffix(line, strings.Repeat("x", i%100)+"\n") {
			t.Fatalf("line %q: %v", line, err)
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("of writer %d there are %d lines", w, n)
		}
	}
	if most := len(text)/(32<<10) + 1; writes > most {
		t.Errorf("%d writes of %d bytes", writes, len(text))
	}
}

func TestHeldTellsOfWritesThatFailed(t *testing.T) {
	s := newSink()
	h := logx.Hold(s, time.Hour)
	s.fails = errors.New("the disk is full")
	if _, err := h.Write([]byte("a\n")); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); !errors.Is(err, s.fails) {
		t.Errorf("the end says %v", err)
	}
	s.fails = nil
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
