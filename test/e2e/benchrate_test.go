package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// benchRate compares how many running guests come to be in a second with what a loop over qemu-img and virsh comes to, so many at once.
// The guests of a round run on until its end, on both sides.
func (s *site) benchRate() {
	for _, round := range []struct{ atOnce, guests int }{{1, 10}, {10, 20}, {50, 50}} {
		ours := s.rateOf(round.atOnce, round.guests, func(i int) { s.endBusy(http.MethodPost, "/api/v1/vms", s.request(fmt.Sprintf("rate-%d", i))) })
		var list struct{ Items []machine }
		s.must(s.call(http.MethodGet, "/api/v1/vms?limit=500", nil, &list), http.StatusOK)
		template := list.Items[0].ID
		xml := s.host.Virsh(s.t, "dumpxml", "--inactive", "nova-"+template)
		for _, m := range list.Items {
			if m.ID != template {
				s.endBusy(http.MethodDelete, "/api/v1/vms/"+m.ID, nil)
			}
		}
		s.host.Virsh(s.t, "destroy", "nova-"+template)
		made := make([]string, round.guests)
		virsh := s.rateOf(round.atOnce, round.guests, func(i int) { made[i] = s.byHand(template, xml) })
		for _, id := range made {
			s.host.Virsh(s.t, "destroy", "hand-"+id)
			s.host.Virsh(s.t, "undefine", "hand-"+id)
		}
		if err := os.RemoveAll(filepath.Join(s.dir, "node", "hand")); err != nil {
			s.t.Fatal(err)
		}
		s.endBusy(http.MethodDelete, "/api/v1/vms/"+template, nil)
		fmt.Printf("%2d at once, %d guests: %.2f a second, by hand %.2f (ratio %.2f)\n", round.atOnce, round.guests, ours, virsh, ours/virsh)
	}
}

// endBusy begins an operation and waits for its end as long as a busy host takes.
func (s *site) endBusy(method, path string, body any) {
	var op operation
	s.must(s.call(method, path, body, &op), http.StatusAccepted)
	for op.Status != "succeeded" {
		if op.Status == "failed" || op.Status == "canceled" {
			s.t.Fatalf("%s %s ended as %+v", method, path, op)
		}
		s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=60s", nil, &op), http.StatusOK)
	}
}

// rateOf makes guests, so many at once, and tells how many came to be in a second.
func (s *site) rateOf(atOnce, guests int, one func(i int)) float64 {
	s.t.Helper()
	turns, begun := make(chan struct{}, atOnce), time.Now()
	var all sync.WaitGroup
	for i := range guests {
		turns <- struct{}{}
		all.Go(func() { // ends with the guest's start
			defer func() { <-turns }()
			one(i)
		})
	}
	all.Wait()
	return float64(guests) / time.Since(begun).Seconds()
}

var (
	macAddress = regexp.MustCompile(`<mac address=['"]52:[^'"]*['"]/?>`)
	metadata   = regexp.MustCompile(`(?s)<metadata>.*</metadata>`)
	device     = regexp.MustCompile(`<target dev=['"]nvt[^'"]*['"]/?>`) // of the host, that the address gave its name
)

// byHand makes a guest like another one with the host's own tools. NovaCron takes it for a foreign one and leaves it alone.
func (s *site) byHand(template, xml string) string {
	id := uuid.NewString()
	folder, from := filepath.Join(s.dir, "node", "hand", id), filepath.Join(s.dir, "node", "disks", template)
	script := fmt.Sprintf(`set -e; mkdir -p -m 711 $(dirname %[1]s) %[1]s; cp %[2]s/seed.iso %[1]s/; base=$(qemu-img info -U --output=json %[2]s/root.qcow2 | sed -n 's/.*"full-backing-filename": "\(.*\)".*/\1/p')
		qemu-img create -q -f qcow2 -F qcow2 -b $base %[1]s/root.qcow2`, folder, from)
	if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
		s.t.Errorf("make disk: %v: %s", err, out)
	}
	file := filepath.Join(folder, "domain.xml")
	mac := fmt.Sprintf(`<mac address="52:54:%s:%s:%s:%s"/>`, id[0:2], id[2:4], id[4:6], id[6:8])
	text := strings.NewReplacer("nova-"+template, "hand-"+id, "/disks/"+template, "/hand/"+id, template, id).Replace(metadata.ReplaceAllString(xml, ""))
	text = device.ReplaceAllString(macAddress.ReplaceAllString(text, mac), "")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Error(err)
	}
	s.host.Virsh(s.t, "define", file)
	s.host.Virsh(s.t, "start", "hand-"+id)
	return id
}
