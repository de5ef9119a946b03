package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/test/testhost"
)

// patience is how long a test waits for what should take seconds.
const patience = 90 * time.Second

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "novacron-e2e-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "novacron")
	out, err := exec.Command("go", "build", "-tags", "faultinject", "-o", file, "../../cmd/novacron").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return file, nil
})

var demoImage = sync.OnceValues(func() (string, error) {
	const file = "../../bin/demo.qcow2"
	if out, err := exec.Command("../../deploy/demo-image/build.sh", file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build demo image: %w: %s", err, out)
	}
	return filepath.Abs(file)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// site is one installation: a data folder, a hypervisor host, and the server while it runs.
type site struct {
	t      *testing.T
	dir    string
	host   *testhost.Host
	listen string
	server *exec.Cmd
	log    *bytes.Buffer
	token  string
	image  string // id of the demo image
}

func newSite(t *testing.T) *site {
	t.Helper()
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	if _, err := demoImage(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "nova-e2e-") // not t.TempDir: QEMU and PostgreSQL must be able to pass through
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, listen: l.Addr().String(), host: testhost.Start(t, "e2e")}
	_ = l.Close()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("server log:\n%s", tail(s.log.String(), 60))
		}
		_ = os.RemoveAll(dir)
	})
	return s
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// start starts the server and waits until it is ready.
func (s *site) start(env ...string) {
	s.t.Helper()
	s.launch(env...)
	s.eventually("the server is ready", func() bool {
		resp, err := http.Get("http://" + s.listen + "/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if s.token == "" {
		s.login()
	}
}

// launch starts the server, which may be killed before it is ready.
func (s *site) launch(env ...string) {
	s.t.Helper()
	file, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = &bytes.Buffer{}
	s.server = exec.Command(file, "serve", "--data-dir", s.dir, "--listen", s.listen)
	s.server.Env = append(append(os.Environ(), "NOVACRON_VM_LIBVIRT_URI="+s.host.URI(), "NOVACRON_VM_LIBVIRT_NETWORK_NAMESPACE="+s.host.NetNS(), "NOVACRON_NODE_NAME=host-1", "NOVACRON_VM_STOP_GRACE=40s"), env...)
	s.server.Stdout, s.server.Stderr = s.log, s.log
	s.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) login() {
	s.t.Helper()
	password, err := os.ReadFile(filepath.Join(s.dir, "initial-admin-password"))
	if err != nil {
		s.t.Fatal(err)
	}
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	s.must(s.call(http.MethodPost, "/auth/login", map[string]string{"username": "admin", "password": strings.TrimSpace(string(password))}, &tokens), http.StatusOK)
	s.token = tokens.AccessToken
}

// stop ends the server as a service manager does.
func (s *site) stop() {
	if s.server == nil || s.server.ProcessState != nil {
		return
	}
	_ = s.server.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() {
		s.t.Errorf("the server did not stop within %v", patience)
		_ = s.server.Process.Kill()
	})
	defer late.Stop()
	_ = s.server.Wait()
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	s.within(patience, what, ok)
}

func (s *site) within(patience time.Duration, what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

type answer struct {
	status int
	body   []byte
	err    error
}

// call sends a request as the administrator; out may be nil.
func (s *site) call(method, path string, body, out any) answer {
	s.t.Helper()
	var reader io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader, kind = b, "application/octet-stream"
	case string:
		reader = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequest(method, "http://"+s.listen+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err == nil && out != nil && resp.StatusCode < 300 {
		err = json.Unmarshal(content, out)
	}
	return answer{status: resp.StatusCode, body: content, err: err}
}

func (s *site) must(a answer, status int) {
	s.t.Helper()
	if a.err != nil || a.status != status {
		s.t.Fatalf("got %d, want %d: %v %s", a.status, status, a.err, a.body)
	}
}

type operation struct {
	ID       string        `json:"id"`
	TargetID string        `json:"target_id"`
	Status   string        `json:"status"`
	Error    *errs.Problem `json:"error"`
}

type machine struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	State       string  `json:"state"`
	Desired     string  `json:"desired_state"`
	OperationID *string `json:"operation_id"`
	Networks    []struct {
		Addresses []string `json:"addresses"`
	} `json:"networks"`
}

func (s *site) upload() {
	s.t.Helper()
	file, err := demoImage()
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	var image struct{ ID string }
	s.must(s.call(http.MethodPost, "/api/v1/images?name=demo&format=qcow2", io.Reader(f), &image), http.StatusCreated)
	s.image = image.ID
}

func (s *site) request(name string) map[string]any {
	return map[string]any{"name": name, "image_id": s.image, "resources": map[string]any{"vcpus": 1, "memory_mib": 192, "disk_gib": 1}}
}

// create makes a virtual machine and waits for it.
func (s *site) create(name string) operation {
	s.t.Helper()
	var op operation
	s.must(s.call(http.MethodPost, "/api/v1/vms?wait=60s", s.request(name), &op), http.StatusOK)
	if op.Status != "succeeded" {
		s.t.Fatalf("create ended as %+v", op)
	}
	return op
}

func (s *site) delete(id string) {
	s.t.Helper()
	var op operation
	s.must(s.call(http.MethodDelete, "/api/v1/vms/"+id+"?wait=60s", nil, &op), http.StatusOK)
	if op.Status != "succeeded" {
		s.t.Fatalf("delete ended as %+v", op)
	}
}

func (s *site) get(id string) machine {
	s.t.Helper()
	var m machine
	s.must(s.call(http.MethodGet, "/api/v1/vms/"+id, nil, &m), http.StatusOK)
	return m
}

// nothingLeft checks that no trace of a virtual machine is left: to libvirt, on disk, in the scheduler's books, in operations.
func (s *site) nothingLeft() {
	s.t.Helper()
	if domains := strings.TrimSpace(s.host.Virsh(s.t, "list", "--all", "--name")); domains != "" {
		s.t.Errorf("domains are left: %s", domains)
	}
	for _, folder := range []string{"disks", "volumes"} {
		if disks, err := os.ReadDir(filepath.Join(s.dir, "node", folder)); err != nil && !errors.Is(err, os.ErrNotExist) || len(disks) != 0 {
			s.t.Errorf("%s are left: %v %v", folder, disks, err)
		}
	}
	var list struct{ Items []json.RawMessage }
	for _, path := range []string{"/api/v1/vms", "/api/v1/volumes", "/api/v1/scheduler/allocations", "/api/v1/operations?status=running", "/api/v1/operations?status=pending"} {
		s.must(s.call(http.MethodGet, path, nil, &list), http.StatusOK)
		if len(list.Items) != 0 {
			s.t.Errorf("%s still lists %s", path, list.Items)
		}
	}
	var nodes struct {
		Items []struct {
			Allocated struct {
				VCPUs        int64 `json:"vcpus"`
				MemoryBytes  int64 `json:"memory_bytes"`
				StorageBytes int64 `json:"storage_bytes"`
			}
		}
	}
	s.must(s.call(http.MethodGet, "/api/v1/nodes", nil, &nodes), http.StatusOK)
	for _, n := range nodes.Items {
		if n.Allocated.VCPUs != 0 || n.Allocated.MemoryBytes != 0 || n.Allocated.StorageBytes != 0 {
			s.t.Errorf("the node's counters are %+v", n.Allocated)
		}
	}
}

// metric reads one number from /metrics.
func (s *site) metric(name string) float64 {
	s.t.Helper()
	a := s.call(http.MethodGet, "/metrics", nil, nil)
	s.must(a, http.StatusOK)
	for line := range strings.SplitSeq(string(a.body), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return value
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

// cli runs the command line client.
func (s *site) cli(args ...string) (out string, code int) {
	s.t.Helper()
	file, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(file, args...)
	cmd.Env = append(os.Environ(), "NOVACRON_SERVER=http://"+s.listen, "XDG_CONFIG_HOME="+filepath.Join(s.dir, "client"),
		"NOVACRON_PASSWORD_FILE="+filepath.Join(s.dir, "initial-admin-password"))
	content, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return string(content), cmd.ProcessState.ExitCode()
}

// console types into the interactive console and waits for what the guest answers.
func (s *site) console(name, typed, want string) {
	s.t.Helper()
	file, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(file, "vm", "console", name)
	cmd.Env = append(os.Environ(), "NOVACRON_SERVER=http://"+s.listen, "XDG_CONFIG_HOME="+filepath.Join(s.dir, "client"))
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	if _, err := io.WriteString(in, typed); err != nil {
		s.t.Fatal(err)
	}
	var seen bytes.Buffer
	for buf := make([]byte, 1024); !strings.Contains(seen.String(), want); {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			s.t.Fatalf("the console ended with %v after %q", err, seen.String())
		}
	}
	if _, err := in.Write([]byte{0x1d}); err != nil { // Ctrl-]
		s.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("leaving the console: %v", err)
	}
}

// ticketAlone opens a console as a page in a browser does: with nothing but the ticket.
func (s *site) ticketAlone(id string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ticket struct{ URL string }
	s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/console", nil, &ticket), http.StatusCreated)
	socket, _, err := websocket.Dial(ctx, "ws://"+s.listen+ticket.URL, nil)
	if err != nil {
		s.t.Fatalf("a ticket opens no console: %v", err)
	}
	defer socket.CloseNow()
	if err := socket.Write(ctx, websocket.MessageBinary, []byte("echo tic$((40+2))ket\n")); err != nil {
		s.t.Fatal(err)
	}
	for shown := ""; !strings.Contains(shown, "tic42ket"); {
		_, more, err := socket.Read(ctx)
		if err != nil {
			s.t.Fatalf("the console shows %q, and then %v", shown, err)
		}
		shown += string(more)
	}
}
