package systemd

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// askTimeout bounds the question to systemd.
const askTimeout = 2 * time.Second

// HostStopping tells whether the host is shutting down, which is what systemd says of itself then. It is false where there is no systemd.
// Source: systemctl(1), "is-system-running".
func HostStopping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // it ends with an error in every state but "running"
	return strings.TrimSpace(string(out)) == "stopping"
}
