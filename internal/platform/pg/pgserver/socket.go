package pgserver

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
)

const (
	superuser = "novacron"
	database  = "novacron"
	port      = "5432" // only a part of the socket's name

	// maxSocketPath is the longest path that fits into sockaddr_un.sun_path of 108 bytes with its final zero: unix(7).
	maxSocketPath = 107
)

// socketDir picks the folder of the socket: inside the data folder, or, where its path is too long for a socket address,
// a folder elsewhere that is named after the data folder, so that it is the same after a restart.
func socketDir(dataDir string) string {
	fits := func(dir string) bool { return len(filepath.Join(dir, ".s.PGSQL."+port)) <= maxSocketPath }
	dir := filepath.Join(dataDir, "run")
	if fits(dir) {
		return dir
	}
	sum := sha256.Sum256([]byte(dataDir))
	name := "novacron-pg-" + hex.EncodeToString(sum[:8])
	if os.Geteuid() == 0 {
		if fi, err := os.Stat("/run"); err == nil && fi.IsDir() {
			return filepath.Join("/run", name)
		}
	}
	if dir = filepath.Join(os.TempDir(), name); fits(dir) {
		return dir
	}
	return filepath.Join("/tmp", name)
}

// dsn names a database of the cluster, as superuser.
func (s *Server) dsn(db string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + db}
	u.RawQuery = url.Values{"host": {s.socketDir}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return u.String()
}
