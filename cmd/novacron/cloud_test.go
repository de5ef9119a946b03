package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// cloud is a server in memory with the REST API's shapes. Operations are over at once, except those on machines named slow-…, and those
// that create machines named fails-… fail.
type cloud struct {
	mu       sync.Mutex // guards what follows
	count    int
	vms      []*vm.VM // newest first, as all lists
	images   []*vm.Image
	networks []*vm.Network
	nodes    []*apiclient.Node
	ops      []*apiclient.Operation
	keys     []*auth.APIKey
	accounts []*auth.User
	logs     map[uuid.UUID]string
	ended    chan struct{} // closed and made anew when an operation ends
	served   []string      // paths of the requests since the last mark
	serving  chan struct{} // closed and made anew at every request
}

var (
	day    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tenant = uuid.MustParse("00000000-0000-7000-8000-0000000000aa")
	owner  = uuid.MustParse("00000000-0000-7000-8000-0000000000bb")
	node   = uuid.MustParse("00000000-0000-7000-8000-0000000000cc")
)

func newCloud() *cloud {
	c := &cloud{logs: map[uuid.UUID]string{}, ended: make(chan struct{}), serving: make(chan struct{})}
	c.nodes = []*apiclient.Node{{ID: node, Name: "kvm-01", State: "ready", Labels: map[string]string{"rack": "b7"}, VMs: 1, Health: "healthy",
		Capacity: apiclient.NodeResources{VCPUs: 2, MemoryBytes: 8 << 30, StorageBytes: 100 << 30}, Limits: apiclient.NodeResources{VCPUs: 32, MemoryBytes: 7 << 30, StorageBytes: 95 << 30},
		Allocated: apiclient.NodeResources{VCPUs: 1, MemoryBytes: 256 << 20, StorageBytes: 1 << 30}, StorageFreeBytes: 90 << 30, CPUModel: "Sample CPU",
		Accelerator: "kvm", Architecture: "x86_64", Version: "1.0", Hypervisor: "7.2.22", LastHeartbeat: day, RegisteredAt: day}}
	return c
}

func (c *cloud) id() uuid.UUID {
	c.count++
	return uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", c.count))
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, e *errs.Error) {
	p := errs.ProblemOf(e, "", "req-7")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func (c *cloud) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(pattern, "/auth/log") && r.Header.Get("Authorization") != "Bearer token" && r.Header.Get("X-API-Key") != cloudAPIKey {
				refuse(w, errs.New(errs.Unauthenticated, "auth.unauthenticated", "credentials are missing"))
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			h(w, r)
		})
	}
	handle("POST /auth/login", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Username, Password string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		if in.Username != "ada" || in.Password != "secret" {
			refuse(w, errs.New(errs.Unauthenticated, "auth.invalid_credentials", "the user name or the password is wrong"))
			return
		}
		answer(w, 200, map[string]any{"access_token": "token", "refresh_token": "r", "token_type": "Bearer", "expires_in": 900})
	})
	handle("POST /auth/logout", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	handle("GET /api/v1/me", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"id": owner, "username": "ada", "email": "ada@example.org", "role": "user", "scope": "tenant",
			"permissions": []string{"vm:*", "image:*"}, "tenant": map[string]any{"id": tenant, "name": "research"}})
	})
	c.handleVMs(handle)
	c.handleGuests(handle)
	c.handleImages(handle)
	c.handleNetworks(handle)
	c.handleAPIKeys(handle)
	c.handleOperations(handle, mux)
	handle("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"items": c.nodes}) })
	handle("GET /api/v1/nodes/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, c.nodes[0]) })
	for verb, cordoned := range map[string]bool{"cordon": true, "uncordon": false} {
		handle("POST /api/v1/nodes/{id}/"+verb, func(w http.ResponseWriter, _ *http.Request) {
			c.nodes[0].Cordoned = cordoned
			answer(w, 200, c.nodes[0])
		})
	}
	c.handleCatalog(handle)
	c.handleWebhooks(handle)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.served = append(c.served, r.URL.Path)
		close(c.serving)
		c.serving = make(chan struct{})
		c.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
}

// await waits until paths with the given ending have been asked for so often since the last mark.
func (c *cloud) await(often int, ending string) error {
	late := time.After(time.Minute)
	for {
		c.mu.Lock()
		served, next := slices.Clone(c.served), c.serving
		c.mu.Unlock()
		if len(slices.DeleteFunc(served, func(path string) bool { return !strings.HasSuffix(path, ending) })) >= often {
			return nil
		}
		select {
		case <-next:
		case <-late:
			return fmt.Errorf("%s was not asked for %d times", ending, often)
		}
	}
}

func (c *cloud) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served = nil
}

type register func(pattern string, h http.HandlerFunc)

func (c *cloud) handleImages(handle register) {
	find := func(r *http.Request) int {
		for i, image := range c.images {
			if image.ID.String() == r.PathValue("id") {
				return i
			}
		}
		return -1
	}
	handle("POST /api/v1/images", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(string(body), "backing file") {
			refuse(w, vm.ErrImageRefused)
			return
		}
		image := &vm.Image{ID: c.id(), Name: r.URL.Query().Get("name"), Status: vm.ImageImporting, Format: "qcow2", OwnerID: owner, TenantID: tenant, CreatedAt: day, UpdatedAt: day}
		op := c.operate("image.import", image.Name, image.ID, func() {})
		image.OperationID = &op.ID
		answer(w, 201, image)
		image.OperationID, image.Status, image.SizeBytes, image.VirtualSizeBytes = nil, vm.ImageReady, int64(len(body)), 1<<30
		c.images = append([]*vm.Image{image}, c.images...)
	})
	handle("GET /api/v1/images", func(w http.ResponseWriter, r *http.Request) {
		items := []*vm.Image{}
		for _, i := range c.images {
			if name := r.URL.Query().Get("name"); name == "" || name == i.Name {
				items = append(items, i)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("GET /api/v1/images/{id}", func(w http.ResponseWriter, r *http.Request) {
		if i := find(r); i >= 0 {
			answer(w, 200, c.images[i])
			return
		}
		refuse(w, vm.ErrImageNotFound)
	})
	handle("DELETE /api/v1/images/{id}", func(w http.ResponseWriter, r *http.Request) {
		i := find(r)
		if i < 0 {
			refuse(w, vm.ErrImageNotFound)
			return
		}
		for _, m := range c.vms {
			if m.ImageID == c.images[i].ID {
				refuse(w, vm.ErrImageInUse)
				return
			}
		}
		c.images = append(c.images[:i], c.images[i+1:]...)
		w.WriteHeader(204)
	})
}

func (c *cloud) handleNetworks(handle register) {
	find := func(r *http.Request) int {
		for i, n := range c.networks {
			if n.ID.String() == r.PathValue("id") {
				return i
			}
		}
		return -1
	}
	handle("POST /api/v1/networks", func(w http.ResponseWriter, r *http.Request) {
		var in apiclient.NetworkCreate
		_ = json.NewDecoder(r.Body).Decode(&in)
		n := &vm.Network{ID: c.id(), Name: in.Name, Mode: vm.NetworkMode(in.Mode), CIDR: in.CIDR, Gateway: "10.101.0.1", DHCP: in.DHCP, Status: vm.NetworkActive,
			OwnerID: owner, TenantID: tenant, CreatedAt: day, UpdatedAt: day}
		for _, other := range c.networks {
			if other.Name == n.Name {
				refuse(w, vm.ErrNetworkTaken)
				return
			}
		}
		if n.Mode == "" {
			n.Mode = vm.NetworkNAT
		}
		if n.CIDR == "" {
			n.CIDR = "10.101.0.0/24"
		}
		c.networks = append([]*vm.Network{n}, c.networks...)
		answer(w, 201, n)
	})
	handle("GET /api/v1/networks", func(w http.ResponseWriter, r *http.Request) {
		items := []*vm.Network{}
		for _, n := range c.networks {
			if name := r.URL.Query().Get("name"); name == "" || name == n.Name {
				items = append(items, n)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("GET /api/v1/networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		if i := find(r); i >= 0 {
			answer(w, 200, c.networks[i])
			return
		}
		refuse(w, vm.ErrNetworkNotFound)
	})
	handle("DELETE /api/v1/networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		i := find(r)
		if i < 0 {
			refuse(w, vm.ErrNetworkNotFound)
			return
		}
		n := c.networks[i]
		answer(w, 202, c.operate("network.delete", n.Name, n.ID, func() { c.networks = append(c.networks[:i], c.networks[i+1:]...) }))
	})
}

// talk is the guest's end of a serial console: it answers what is typed, and logs out on 'exit'.
func talk(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	_ = conn.Write(r.Context(), websocket.MessageBinary, []byte("login: "))
	typed := ""
	for {
		_, data, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		typed += string(data)
		_ = conn.Write(r.Context(), websocket.MessageBinary, data)
		if strings.Contains(typed, "exit") {
			_ = conn.Close(websocket.StatusNormalClosure, "the machine was powered off")
			return
		}
	}
}
