package pki

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// checkEvery is how long files are believed to be unchanged.
const checkEvery = 5 * time.Second

// watched is what was read from files that may be replaced at any time. Files that cannot be read, for example because only one of them is new yet,
// leave what was read before in use.
type watched[T any] struct {
	files []string
	read  func() (T, error)

	mu      sync.Mutex // guards what follows
	current T
	stamp   string // of the files that current was read from
	checked time.Time
}

// Reload reads the files now, if they have changed.
func (w *watched[T]) Reload() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.look()
}

func (w *watched[T]) look() error {
	w.checked = time.Now()
	stamp, err := stampOf(w.files)
	if err != nil || stamp == w.stamp {
		return err
	}
	next, err := w.read()
	if err != nil {
		return err
	}
	w.current, w.stamp = next, stamp
	return nil
}

// now gives what is to be used now.
func (w *watched[T]) now() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.checked) > checkEvery {
		_ = w.look() // what was read before stays in use
	}
	return w.current
}

// stampOf tells files from those that they were before.
func stampOf(files []string) (stamp string, err error) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", f, err)
		}
		stamp += fmt.Sprintf("%d/%d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}
