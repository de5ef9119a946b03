package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// AgentAnswer is what an agent of a test's own answers to a command, byte for byte.
type AgentAnswer func(command string, arguments json.RawMessage) ([]byte, error)

// SetAgentAnswer gives a guest a good agent that answers questions in its own way; nil gives it the usual one, whose guest is the machine
// that the test runs on: programs run and files lie there, with the rights of the test.
func (d *Driver) SetAgentAnswer(vm uuid.UUID, answer AgentAnswer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		dom.agent, dom.answer, dom.host = GoodAgent, answer, &hostAgent{files: map[int]*os.File{}, programs: map[int]*program{}}
	}
}

// AskAgent implements driver.Driver. A hung agent takes all of the patience.
func (d *Driver) AskAgent(ctx context.Context, vm uuid.UUID, command []byte, patience time.Duration) ([]byte, error) {
	var kind Agent
	var answer AgentAnswer
	err := d.ask(ctx, "AskAgent", vm, func(dom *domain) error {
		kind = dom.agent
		if !isOn(dom) {
			kind = NoAgent
		}
		answer = dom.answer
		if answer == nil && dom.host != nil {
			answer = dom.host.answer
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case kind == HungAgent:
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-wait.C:
			return nil, driver.ErrAgentSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case kind == NoAgent || answer == nil:
		return nil, driver.ErrNoAgent
	}
	var c struct {
		Execute   string          `json:"execute"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if err := json.Unmarshal(command, &c); err != nil {
		return nil, &driver.AgentRefusal{Message: "Invalid JSON syntax"}
	}
	return answer(c.Execute, c.Arguments)
}

// hostAgent is an agent on the test's own machine: the part of the protocol that NovaCron speaks (QEMU, docs/interop/qemu-ga-ref).
type hostAgent struct {
	mu       sync.Mutex // guards what follows
	next     int
	files    map[int]*os.File
	programs map[int]*program
}

type program struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     chan struct{}
}

type hostArguments struct {
	Path   string
	Arg    []string
	Env    []string
	Input  []byte `json:"input-data"`
	PID    int
	Handle int
	Mode   string
	Count  int
	Buf    []byte `json:"buf-b64"`
	Offset int64
	Whence int
}

func (a *hostAgent) answer(command string, arguments json.RawMessage) ([]byte, error) {
	var in hostArguments
	if len(arguments) > 0 {
		if err := json.Unmarshal(arguments, &in); err != nil {
			return nil, &driver.AgentRefusal{Message: err.Error()}
		}
	}
	value, err := a.carryOut(command, in)
	if err != nil {
		return nil, &driver.AgentRefusal{Message: err.Error()}
	}
	return json.Marshal(map[string]any{"return": value})
}

func (a *hostAgent) carryOut(command string, in hostArguments) (any, error) {
	type object = map[string]any
	switch command {
	case "guest-info":
		var commands []object
		for _, name := range []string{"guest-info", "guest-exec", "guest-file-open", "guest-get-osinfo"} {
			commands = append(commands, object{"name": name, "enabled": true})
		}
		return object{"version": "7.2.0", "supported_commands": append(commands, object{"name": "guest-suspend-ram", "enabled": false})}, nil
	case "guest-get-osinfo":
		return object{"id": "fake", "name": "Fake OS", "version-id": "1", "kernel-release": "6.1.0", "machine": "x86_64", "pretty-name": "Fake OS 1"}, nil
	case "guest-get-host-name":
		return object{"host-name": "faked"}, nil
	case "guest-get-timezone":
		return object{"zone": "CET", "offset": 3600}, nil
	case "guest-get-users":
		return []object{{"user": "ada", "login-time": 1700000000.5}}, nil
	case "guest-get-fsinfo":
		return []object{{"name": "vda1", "mountpoint": "/", "type": "ext4", "total-bytes": 1000, "used-bytes": 250}}, nil
	case "guest-network-get-interfaces":
		return []object{{"name": "eth0", "hardware-address": "52:54:00:00:00:01",
			"ip-addresses": []object{{"ip-address": "10.0.0.5", "prefix": 24, "ip-address-type": "ipv4"}}}}, nil
	case "guest-get-time":
		return time.Now().Add(-time.Hour).UnixNano(), nil
	case "guest-set-time", "guest-set-user-password":
		return object{}, nil
	case "guest-exec":
		return a.exec(in)
	case "guest-exec-status":
		return a.status(in.PID)
	}
	return a.file(command, in)
}

func (a *hostAgent) exec(in hostArguments) (any, error) {
	p := &program{cmd: exec.Command(in.Path, in.Arg...), done: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = bytes.NewReader(in.Input), &p.out, &p.err, in.Env
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the program
		_ = p.cmd.Wait()
		close(p.done)
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.programs[p.cmd.Process.Pid] = p
	return map[string]any{"pid": p.cmd.Process.Pid}, nil
}

func (a *hostAgent) status(pid int) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.programs[pid]
	if p == nil {
		return nil, errors.New("PID does not exist")
	}
	select {
	case <-p.done:
	default:
		return map[string]any{"exited": false}, nil
	}
	delete(a.programs, pid)
	return map[string]any{"exited": true, "exitcode": p.cmd.ProcessState.ExitCode(), "out-data": p.out.Bytes(), "err-data": p.err.Bytes()}, nil
}

func (a *hostAgent) file(command string, in hostArguments) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if command == "guest-file-open" {
		flags := os.O_RDONLY
		if in.Mode == "w" {
			flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		}
		f, err := os.OpenFile(in.Path, flags, 0o666)
		if err != nil {
			return nil, err
		}
		a.next++
		a.files[a.next] = f
		return a.next, nil
	}
	f := a.files[in.Handle]
	if f == nil {
		return nil, errors.New("handle has not been found, or the command " + command + " has not")
	}
	switch command {
	case "guest-file-close":
		delete(a.files, in.Handle)
		return map[string]any{}, f.Close()
	case "guest-file-write":
		n, err := f.Write(in.Buf)
		return map[string]any{"count": n, "eof": false}, err
	case "guest-file-seek":
		at, err := f.Seek(in.Offset, in.Whence)
		return map[string]any{"position": at, "eof": false}, err
	case "guest-file-read":
		buf := make([]byte, in.Count)
		n, err := f.Read(buf)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return map[string]any{"count": n, "buf-b64": buf[:n], "eof": n == 0}, err
	}
	return nil, errors.New("The command " + command + " has not been found")
}
