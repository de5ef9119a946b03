package app

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/novacron/novacron/internal/platform/errs"
)

// ErrDataDirInUse says that another novacron works in the data folder.
var ErrDataDirInUse = errs.New(errs.Conflict, "app.data_dir_in_use", "another novacron runs in this data folder").
	WithAction("Stop it, or choose another folder with --data-dir.")

// lockDataDir makes the data folder and takes it for this process. The kernel gives the lock back when the process ends, however it
// does.
func lockDataDir(dir string) (unlock func(), err error) {
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, ErrDataDirInUse.WithMeta("data_dir", dir).Wrap(err)
	}
	return func() { _ = f.Close() }, nil
}
