package guest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// patience is how long a test waits for what takes seconds on an idle machine.
const patience = 2 * time.Minute

// machine is one run of a guest.
type machine struct {
	t      *testing.T
	dir    string // of its sockets
	cmd    *exec.Cmd
	keys   io.Writer // what is typed on the serial console
	exited chan struct{}

	mu     sync.Mutex // guards serial
	serial bytes.Buffer
}

// overlay makes a disk of its own, of 1 GiB, for a guest of this image.
func overlay(t *testing.T, image string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk, "1G").CombinedOutput(); err != nil {
		t.Fatalf("make the disk: %v\n%s", err, out)
	}
	return disk
}

// boot starts a guest without acceleration, as on a machine that has none. It ends with the test.
func boot(t *testing.T, kind, disk string, args ...string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "nvg") // the path of a socket has little room
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, exited: make(chan struct{})}
	m.cmd = exec.Command("qemu-system-x86_64", append([]string{
		"-nodefaults", "-display", "none", "-machine", kind + ",accel=tcg", "-smp", "1", "-m", "256",
		"-drive", "file=" + disk + ",if=virtio,format=qcow2",
		"-serial", "stdio",
		"-qmp", "unix:" + dir + "/qmp,server=on,wait=off",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=" + dir + "/agent,server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
	}, args...)...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	keys, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.keys = keys
	m.cmd.Stdout, m.cmd.Stderr = m, m
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with QEMU, which the cleanup kills
		defer close(m.exited)
		_ = m.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.exited
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the console of %s:\n%s", kind, m.said())
		}
	})
	return m
}

// Write takes what the guest says on its console.
func (m *machine) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial.Write(p)
}

// said is all that the guest has said so far.
func (m *machine) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.serial.String()
}

// expect waits until the guest has said this so many times.
func (m *machine) expect(text string, times int) {
	m.t.Helper()
	m.eventually("the console to say "+text, func() error {
		if n := strings.Count(m.said(), text); n < times {
			return fmt.Errorf("said %d times of %d", n, times)
		}
		return nil
	})
}

// types types a line on the console.
func (m *machine) types(line string) {
	m.t.Helper()
	if _, err := io.WriteString(m.keys, line+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

// goes waits for the guest to switch itself off and says how long that took.
func (m *machine) goes() time.Duration {
	m.t.Helper()
	began := time.Now()
	select {
	case <-m.exited:
	case <-time.After(patience):
		m.t.Fatal("the guest does not go")
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		m.t.Fatalf("QEMU ended with %d", code)
	}
	return time.Since(began)
}

// qmp gives QEMU one command.
func (m *machine) qmp(command string) {
	m.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(m.dir, "qmp"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	for _, name := range []string{"qmp_capabilities", command} {
		if _, err := fmt.Fprintf(conn, `{"execute":%q}`+"\n", name); err != nil {
			m.t.Fatal(err)
		}
	}
	for answers := 0; answers < 2; { // the greeting and events come between
		line, err := in.ReadBytes('\n')
		if err != nil || bytes.Contains(line, []byte(`"error"`)) {
			m.t.Fatalf("%s: %v %s", command, err, line)
		}
		if bytes.Contains(line, []byte(`"return"`)) {
			answers++
		}
	}
}

// agent asks the guest agent, and waits for it while it starts. The answer goes into out unless it is nil, and is not waited for
// then. Protocol: QEMU, docs/interop/qemu-ga-ref.
func (m *machine) agent(command string, arguments, out any) {
	m.t.Helper()
	m.eventually("the guest agent's answer to "+command, func() error {
		conn, err := net.Dial("unix", filepath.Join(m.dir, "agent"))
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		in := json.NewDecoder(conn)
		call := func(command string, arguments, out any) error {
			if arguments == nil {
				arguments = struct{}{}
			}
			if err := json.NewEncoder(conn).Encode(map[string]any{"execute": command, "arguments": arguments}); err != nil || out == nil {
				return err
			}
			var answer struct {
				Return json.RawMessage
				Error  *struct{ Desc string }
			}
			if err := in.Decode(&answer); err != nil {
				return err
			}
			if answer.Error != nil {
				return fmt.Errorf("%s", answer.Error.Desc)
			}
			return json.Unmarshal(answer.Return, out)
		}
		// Another call's late answer may still be on its way.
		id := time.Now().UnixNano() % 1e9
		var synced int64
		for synced != id {
			if err := call("guest-sync", map[string]any{"id": id}, &synced); err != nil {
				return fmt.Errorf("sync: %w", err)
			}
		}
		return call(command, arguments, out)
	})
}

// run runs a shell command in the guest through its agent and gives what it printed.
func (m *machine) run(command string) string {
	m.t.Helper()
	var started struct{ Pid int }
	m.agent("guest-exec", map[string]any{"path": "/bin/sh", "arg": []string{"-c", command}, "capture-output": true}, &started)
	var status struct {
		Exited   bool
		ExitCode int
		Signal   int
		OutData  []byte `json:"out-data"`
	}
	m.eventually("the end of "+command, func() error {
		m.agent("guest-exec-status", map[string]any{"pid": started.Pid}, &status)
		if !status.Exited {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	if status.ExitCode != 0 || status.Signal != 0 {
		m.t.Fatalf("%s ended with %d, signal %d: %s", command, status.ExitCode, status.Signal, status.OutData)
	}
	return strings.TrimSpace(string(status.OutData))
}

func (m *machine) eventually(what string, f func() error) {
	m.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-m.exited:
			m.t.Fatalf("waited for %s, but the guest has gone: %v", what, err)
		case <-deadline:
			m.t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

// isoSeed writes a NoCloud seed as an ISO 9660 image, as NovaCron does.
func isoSeed(t *testing.T, metaData, userData string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	image, err := iso9660.Create(file.New(f, false), 0, 0, 2048, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(image.Workspace())
	for name, text := range map[string]string{"meta-data": metaData, "user-data": userData} {
		entry, err := image.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(entry, text); err != nil {
			t.Fatal(err)
		}
		_ = entry.Close()
	}
	if err := image.Finalize(iso9660.FinalizeOptions{VolumeIdentifier: "CIDATA", RockRidge: true, Joliet: true}); err != nil {
		t.Fatal(err)
	}
	return path
}

// fatSeed writes one as a FAT disk.
func fatSeed(t *testing.T, metaData, userData string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.img")
	commands := [][]string{{"mformat", "-C", "-v", "CIDATA", "-T", "2880", "-h", "2", "-s", "18", "-i", path, "::"}}
	for name, text := range map[string]string{"meta-data": metaData, "user-data": userData} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, []string{"mcopy", "-i", path, filepath.Join(dir, name), "::"})
	}
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	return path
}
