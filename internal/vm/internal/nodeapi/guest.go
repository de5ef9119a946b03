package nodeapi

import (
	"time"

	"github.com/google/uuid"
)

// The verbs of the agent in a guest. They change no intent, are fenced by nothing, and never wait for a command at work. Unlike others they are
// not idempotent, so they are sent once.
const (
	VerbGuestInfo     Verb = "vm.guest.info"     // Guest -> vm.GuestInfo
	VerbGuestExec     Verb = "vm.guest.exec"     // GuestExec -> vm.GuestExec
	VerbGuestPush     Verb = "vm.guest.push"     // GuestPush -> vm.GuestFile: the node fetches the bytes from the stream
	VerbGuestPull     Verb = "vm.guest.pull"     // GuestPull -> vm.GuestFile: the node sends size and bytes over the stream
	VerbGuestPassword Verb = "vm.guest.password" // GuestPassword -> Empty
	VerbGuestTime     Verb = "vm.guest.time"     // Guest -> vm.GuestTime
)

// Guest says for whom a guest is asked, so that one tenant's guests cannot take all there is of patience.
type Guest struct {
	TenantID uuid.UUID `json:"tenant_id"`
}

// Bounds of a GuestExec, so that command and answer fit into a message of the bus, and a slow agent reads the command in time.
const (
	GuestOutputMax = 256 << 10 // of each of the two streams
	GuestStdinMax  = 64 << 10
	GuestArgsMax   = 64 << 10 // of program, arguments and environment
	GuestExecMax   = 5 * time.Minute
)

// GuestExec runs a program in a guest.
type GuestExec struct {
	Guest
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
	Stdin   []byte            `json:"stdin"`
	Timeout time.Duration     `json:"timeout_ns"`
}

// GuestPush puts a file into a guest.
type GuestPush struct {
	Guest
	Path      string `json:"path"`
	Mode      string `json:"mode"` // octal; empty: that of the file that is there, or 0644
	StreamURL string `json:"stream_url"`
	MaxBytes  int64  `json:"max_bytes"`
}

// GuestPull fetches a file from a guest: the stream carries its size as eight bytes, the most significant first, and then so many bytes.
type GuestPull struct {
	Guest
	Path      string `json:"path"`
	StreamURL string `json:"stream_url"`
	MaxBytes  int64  `json:"max_bytes"`
}

// GuestPassword sets the password of a user of a guest.
type GuestPassword struct {
	Guest
	Username string `json:"username"`
	Password string `json:"password"`
	Hashed   bool   `json:"hashed"` // it is a hash as crypt(3) makes them
}
