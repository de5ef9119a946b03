//go:build faultinject

package app

import (
	"os"
	"syscall"
)

// fault kills the process, as a power cut would, at the point that NOVACRON_TEST_KILL names as "<kind>/<step>/<when>", once: the file
// that NOVACRON_TEST_KILLED names is left behind, and where it is there nothing happens. Only binaries that tests build have it.
func fault() func(kind, step, when string) error {
	point, marker := os.Getenv("NOVACRON_TEST_KILL"), os.Getenv("NOVACRON_TEST_KILLED")
	if point == "" {
		return nil
	}
	return func(kind, step, when string) error {
		if kind+"/"+step+"/"+when != point {
			return nil
		}
		if _, err := os.Stat(marker); err == nil {
			return nil
		}
		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			return err
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
