package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// MinMajor is the oldest major version of PostgreSQL that novacron works with.
const MinMajor = 15

// installation is one installed version of PostgreSQL.
type installation struct {
	dir   string // folder of initdb and postgres
	major int
}

func (i installation) path(program string) string { return filepath.Join(i.dir, program) }

// versionLine matches "postgres (PostgreSQL) 15.14 (Debian …)" and "… 18beta1".
var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// installations finds every usable version: where Debian puts them, and the one in PATH. With dirs, it looks there only.
func installations(ctx context.Context, dirs []string) []installation {
	if dirs == nil {
		// The pattern is well-formed, which is the only thing that Glob can complain about.
		dirs, _ = filepath.Glob("/usr/lib/postgresql/*/bin")
		if p, err := exec.LookPath("postgres"); err == nil {
			if p, err = filepath.EvalSymlinks(p); err == nil {
				dirs = append(dirs, filepath.Dir(p))
			}
		}
	}
	var found []installation
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, "initdb")); err != nil {
			continue
		}
		// The program knows its version better than the name of its folder does.
		out, err := exec.CommandContext(ctx, filepath.Join(d, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		m := versionLine.FindSubmatch(out)
		if m == nil {
			continue
		}
		if major, err := strconv.Atoi(string(m[1])); err == nil && major >= MinMajor {
			found = append(found, installation{dir: d, major: major})
		}
	}
	return found
}

// choose picks the installation for a cluster of the given major version, or the newest one when there is no cluster (0).
func choose(found []installation, clusterMajor int, cluster string) (installation, error) {
	var newest installation
	for _, i := range found {
		if i.major == clusterMajor {
			return i, nil
		}
		if i.major > newest.major {
			newest = i
		}
	}
	if clusterMajor != 0 {
		e := ErrVersionMismatch.WithMessage("the database in %s was made by PostgreSQL %d, which is not installed here", cluster, clusterMajor)
		action := fmt.Sprintf("apt-get install postgresql-%d", clusterMajor)
		if newest.major > clusterMajor {
			action += fmt.Sprintf("; or, with both versions installed and novacron stopped, move the data to PostgreSQL %d by pg_upgrade", newest.major)
		}
		return installation{}, e.WithAction(action+".").WithMeta("cluster_version", strconv.Itoa(clusterMajor))
	}
	if newest.major == 0 {
		return installation{}, ErrBinariesMissing
	}
	return newest, nil
}
