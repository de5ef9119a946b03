package guestagent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The agent has no limit on the time of a program, keeps up to 16 MiB of each stream, and gives them in one answer that libvirt passes on
// only up to 4 MiB and that costs the guest its agent above 10. So a shell in the guest keeps the bounds:
//
//	$1 bytes of each stream, $2 seconds, then NAME=VALUE …, "--", program and arguments.
//
// What a stream has beyond its bound is read and dropped, so that the program does not block or die of it. 7 and 8 are the agent's
// streams, 6 carries the program's output past the reader of its errors, 9 its exit code.
//
// Names of variables are such that no environment has them by chance.
const shell = `novacron_n=$1 novacron_t=$2; shift 2
while [ "$1" != -- ]; do export "$1"; shift; done; shift
if timeout -s KILL 5 true 2>/dev/null; then set -- timeout -s KILL "$novacron_t" "$@"; fi
exec 7>&1 8>&2
novacron_rc=$({ { { "$@" 6>&- 7>&- 8>&- 9>&-; echo $? >&9; } 2>&1 >&6 6>&- | { head -c "$novacron_n" >&8; cat >/dev/null; }; } 6>&1 |
	{ head -c "$novacron_n" >&7; cat >/dev/null; }; } 9>&1)
exit "${novacron_rc:-126}"`

const (
	shellPath = "/bin/sh"
	firstLook = 20 * time.Millisecond
	lastLook  = 500 * time.Millisecond
	// killGrace is how much longer than the program itself the agent is asked for it.
	killGrace = 3 * time.Second
	killed    = 128 + 9 // exit code of a shell whose program was ended by SIGKILL
)

// ended is what the agent tells of a program.
type ended struct {
	Exited       bool   `json:"exited"`
	ExitCode     *int   `json:"exitcode"`
	Signal       *int   `json:"signal"`
	Out          []byte `json:"out-data"`
	Err          []byte `json:"err-data"`
	OutTruncated bool   `json:"out-truncated"`
	ErrTruncated bool   `json:"err-truncated"`
}

// Exec runs a program in the guest and waits for its end, as long as is asked for. Where ctx ends first, the program goes on until its time
// is up.
func (a *Agent) Exec(ctx context.Context, req nodeapi.GuestExec) (vm.GuestExec, error) {
	begin := time.Now()
	seconds := max(1, int(req.Timeout.Round(time.Second).Seconds()))
	wrapped := []string{"-c", shell, "sh", strconv.Itoa(nodeapi.GuestOutputMax + 1), strconv.Itoa(seconds)}
	var env []string
	for name, value := range req.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	wrapped = append(append(append(wrapped, env...), "--", req.Command), req.Args...)
	pid, err := a.start(ctx, shellPath, wrapped, nil, req.Stdin)
	if errors.Is(err, vm.ErrAgentRefused) && !a.hasShell(ctx) {
		pid, err = a.start(ctx, req.Command, req.Args, env, req.Stdin)
	}
	if err != nil {
		return vm.GuestExec{}, err
	}
	e, err := a.await(ctx, pid, begin.Add(time.Duration(seconds)*time.Second+killGrace))
	if err != nil {
		return vm.GuestExec{}, err
	}
	took := time.Since(begin)
	result := vm.GuestExec{ExitCode: e.ExitCode, Signal: e.Signal, Stdout: e.Out, Stderr: e.Err, DurationMS: took.Milliseconds(),
		StdoutTruncated: e.OutTruncated, StderrTruncated: e.ErrTruncated}
	if !e.Exited || took >= time.Duration(seconds)*time.Second && e.ExitCode != nil && *e.ExitCode == killed {
		result.ExitCode, result.TimedOut = nil, true
	}
	result.Stdout, result.StdoutTruncated = bounded(result.Stdout, result.StdoutTruncated)
	result.Stderr, result.StderrTruncated = bounded(result.Stderr, result.StderrTruncated)
	return result, nil
}

func bounded(stream []byte, truncated bool) ([]byte, bool) {
	if stream == nil {
		stream = []byte{}
	}
	if len(stream) > nodeapi.GuestOutputMax {
		return stream[:nodeapi.GuestOutputMax], true
	}
	return stream, truncated
}

// hasShell tells whether the guest is of a kind that has a shell; one that has none runs programs directly.
func (a *Agent) hasShell(ctx context.Context) bool {
	var info vm.GuestInfo
	err := a.system(ctx, &info)
	return err != nil || info.System.ID != "mswindows"
}

func (a *Agent) start(ctx context.Context, path string, args, env []string, stdin []byte) (int, error) {
	question := map[string]any{"path": path, "arg": args, "capture-output": true}
	if len(env) > 0 {
		question["env"] = env
	}
	if len(stdin) > 0 {
		question["input-data"] = stdin
	}
	if args == nil {
		question["arg"] = []string{}
	}
	var started struct {
		PID int `json:"pid"`
	}
	err := a.call(ctx, "guest-exec", question, &started)
	return started.PID, err
}

// await asks for a program until it has ended or the time is up.
func (a *Agent) await(ctx context.Context, pid int, end time.Time) (ended, error) {
	look := time.NewTimer(0)
	defer look.Stop()
	for wait := firstLook; ; wait = min(wait*2, lastLook) {
		var e ended
		if err := a.call(ctx, "guest-exec-status", map[string]any{"pid": pid}, &e); err != nil || e.Exited || time.Now().After(end) {
			return e, err
		}
		look.Reset(wait)
		select {
		case <-look.C:
		case <-ctx.Done():
			return e, context.Cause(ctx)
		}
	}
}

// run runs a script of ours and answers what it complains about where it fails.
func (a *Agent) run(ctx context.Context, script string, args ...string) error {
	pid, err := a.start(ctx, shellPath, append([]string{"-c", script, "sh"}, args...), nil, nil)
	if err != nil {
		return err
	}
	e, err := a.await(ctx, pid, time.Now().Add(time.Minute))
	switch {
	case err != nil:
		return err
	case !e.Exited:
		return vm.ErrAgentUnavailable.WithMessage("a program that the guest agent runs does not end")
	case e.ExitCode == nil || *e.ExitCode != 0:
		words := clean(string(e.Err[:min(len(e.Err), 4*maxWords)]), maxWords)
		return vm.ErrAgentRefused.WithMessage("the guest refused: %s", words)
	}
	return nil
}
