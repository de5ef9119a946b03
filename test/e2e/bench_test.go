package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestBench measures, from outside and in one run, what docs/benchmarks.md keeps. It judges nothing: a busy machine is no failure.
func TestBench(t *testing.T) {
	if os.Getenv("NOVACRON_TEST_BENCH") == "" {
		t.Skip("set NOVACRON_TEST_BENCH=1, or run 'make bench'")
	}
	s := newSite(t)
	begun := time.Now()
	s.start()
	cold := time.Since(begun)
	s.stop()
	begun = time.Now()
	s.start()
	warm := time.Since(begun)
	fmt.Printf("start of serve to ready, first (initdb, migrations, keys): %v\n", cold.Round(time.Millisecond))
	fmt.Printf("start of serve to ready, again:                            %v\n", warm.Round(time.Millisecond))
	s.upload()
	s.delete(s.create("warm-up").TargetID)
	if os.Getenv("NOVACRON_TEST_BENCH") == "rows" { // the part that takes no guests, alone
		s.benchRows(0, 100_000)
		s.benchRows(100_000, 1_000_000)
		return
	}
	s.benchBoot()
	s.stop()
	s.start("NOVACRON_SCHEDULER_OVERCOMMIT_VCPU=64", "NOVACRON_SCHEDULER_OVERCOMMIT_MEMORY=4") // room for 50 at once
	s.benchRate()
	s.benchRows(0, 100_000)
	s.benchRows(100_000, 1_000_000)
	s.benchIdle()
}

// benchBoot compares POST-to-running with virsh on the same domain.
func (s *site) benchBoot() {
	const rounds = 7
	var ours, virsh []time.Duration
	for i := range rounds {
		begun := time.Now()
		op := s.create(fmt.Sprintf("bench-%d", i))
		ours = append(ours, time.Since(begun))
		id := op.TargetID
		xml := filepath.Join(s.dir, "bench.xml")
		if err := os.WriteFile(xml, []byte(s.host.Virsh(s.t, "dumpxml", "--inactive", "nova-"+id)), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.host.Virsh(s.t, "destroy", "nova-"+id)
		s.host.Virsh(s.t, "undefine", "nova-"+id)
		begun = time.Now()
		s.host.Virsh(s.t, "define", xml)
		s.host.Virsh(s.t, "start", "nova-"+id)
		virsh = append(virsh, time.Since(begun))
		s.delete(id)
	}
	o, v := median(ours), median(virsh)
	fmt.Printf("POST to running guest, image cached, median of %d:          %v\n", rounds, o.Round(time.Millisecond))
	fmt.Printf("virsh define && virsh start, same domain, median of %d:     %v (ratio %.2f)\n", rounds, v.Round(time.Millisecond), float64(o)/float64(v))
}

// benchRows measures reads beside so many virtual machines of the tenant, of which some are there already.
func (s *site) benchRows(have, rows int) {
	s.stop()
	s.start() // with rate limits that nobody has used yet
	var me struct {
		UserID   string `json:"user_id"`
		ID       string `json:"id"`
		TenantID string `json:"tenant_id"`
	}
	s.must(s.call(http.MethodGet, "/api/v1/me", nil, &me), http.StatusOK)
	sql := fmt.Sprintf(`INSERT INTO vm.vms (id, name, state, hypervisor_type, owner_id, tenant_id, resource_config, network_config, storage_config, image_id,
		desired_state, provisioned, created_at)
		SELECT gen_random_uuid(), 'row-' || i, (ARRAY['running','stopped','paused','error'])[1 + i %% 4]::vm.vm_state_enum, 'kvm', '%[1]s', '%[1]s',
			'{"vcpus":1,"memory_mib":512,"disk_gib":5}', '[]', '[{"name":"root","size_bytes":5368709120}]', '%[2]s', 'stopped', true, now() - i * interval '1 second'
		FROM generate_series(%[4]d, %[3]d) i; ANALYZE vm.vms;`, me.TenantID, s.image, rows, have+1)
	cmd := exec.Command("psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", filepath.Join(s.dir, "postgres", "run"), "-U", "novacron", "-d", "novacron", "-c", sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("psql: %v %s", err, out)
	}
	var page struct {
		Items      []machine `json:"items"`
		NextCursor string    `json:"next_cursor"`
	}
	deep := ""
	for range 20 {
		page.NextCursor = ""
		s.must(s.call(http.MethodGet, "/api/v1/vms?limit=500&cursor="+deep, nil, &page), http.StatusOK)
		deep = page.NextCursor
	}
	for _, read := range []struct{ what, path string }{
		{"GET one", "/api/v1/vms/" + page.Items[0].ID},
		{"list, 100 rows", "/api/v1/vms?limit=100"},
		{"list, 100 rows, cursor 10,000 deep", "/api/v1/vms?limit=100&cursor=" + deep},
		{"list, 100 rows, state=error", "/api/v1/vms?limit=100&state=error"},
		{"list, 100 rows, state and prefix", "/api/v1/vms?limit=100&state=running&name_prefix=row-7"},
		{"list by name", "/api/v1/vms?name=row-77777"},
	} {
		var took []time.Duration
		for len(took) < 500 {
			begun := time.Now()
			answer := s.call(http.MethodGet, read.path, nil, nil)
			if answer.status == http.StatusTooManyRequests { // faster than the route allows
				<-time.After(time.Second)
				continue
			}
			s.must(answer, http.StatusOK)
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		at := func(p float64) time.Duration { return took[int(float64(len(took)-1)*p)].Round(10 * time.Microsecond) }
		fmt.Printf("%-36s beside %d rows: p50 %v, p95 %v, p99 %v\n", read.what, rows, at(.50), at(.95), at(.99))
	}
}

// benchIdle tells what a server takes that has nothing to do.
func (s *site) benchIdle() {
	s.stop()
	s.start()
	idle := time.NewTimer(10 * time.Second)
	<-idle.C
	fmt.Printf("resident memory, idle, without PostgreSQL:                  %.0f MiB\n", s.metric("process_resident_memory_bytes")/(1<<20))
	_ = s.server.Process.Signal(syscall.SIGTERM)
	_ = s.server.Wait()
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
