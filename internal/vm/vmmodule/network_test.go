package vmmodule

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

type object = map[string]any

func (w *world) network(body object) vm.Network {
	w.t.Helper()
	return decode[vm.Network](w.t, w.do(http.MethodPost, "/api/v1/networks", body), http.StatusCreated)
}

// fails sends a request that must be refused.
func (w *world) fails(method, path string, body any, status int, code string) {
	w.t.Helper()
	if p := decode[errs.Problem](w.t, w.do(method, path, body), status); p.Code != code {
		w.t.Errorf("%s %s %v: %s, want %s", method, path, body, p.Code, code)
	}
}

func (w *world) createOn(name string, image uuid.UUID, networks ...object) op {
	w.t.Helper()
	body := createRequest(name, image)
	body["networks"] = networks
	return decode[op](w.t, w.do(http.MethodPost, "/api/v1/vms?wait=60s", body), http.StatusOK)
}

func (w *world) interfaces(id uuid.UUID) []vm.Interface {
	w.t.Helper()
	return decode[struct{ Items []vm.Interface }](w.t, w.do(http.MethodGet, "/api/v1/vms/"+id.String()+"/interfaces", nil), http.StatusOK).Items
}

// ends waits for an operation that a request begins.
func (w *world) ends(method, path string, body any, status string) op {
	w.t.Helper()
	done := decode[op](w.t, w.do(method, path+"?wait=60s", body), http.StatusOK)
	if done.Status != status {
		w.t.Fatalf("%s %s ended as %+v", method, path, done)
	}
	return done
}

func policyOf(p nodeapi.Policy, mac string) *nodeapi.PolicyInterface {
	for i := range p.Interfaces {
		if p.Interfaces[i].MAC == mac {
			return &p.Interfaces[i]
		}
	}
	return nil
}

func TestNetworkModes(t *testing.T) {
	w := newWorld(t)
	admin := w.tenant
	admin.Scope = identity.ScopePlatform
	create := func(body object, status int) errs.Problem {
		t.Helper()
		return decode[errs.Problem](t, w.doAs(admin, http.MethodPost, "/api/v1/networks", body), status)
	}
	for _, mode := range []string{"routed", "bridge"} {
		w.fails(http.MethodPost, "/api/v1/networks", object{"name": "outside", "mode": mode, "uplink": "br0"}, http.StatusForbidden, "network.provider_only")
	}
	for what, body := range map[string]object{
		"uplink of nat":       {"name": "x", "uplink": "br0"},
		"vlan of isolated":    {"name": "x", "mode": "isolated", "vlan": 5},
		"bridge without one":  {"name": "x", "mode": "bridge"},
		"evil uplink":         {"name": "x", "mode": "bridge", "uplink": "x; reboot"},
		"option as uplink":    {"name": "x", "mode": "bridge", "uplink": "-f"},
		"own uplink":          {"name": "x", "mode": "bridge", "uplink": "nova0123456789"},
		"cidr of bridge":      {"name": "x", "mode": "bridge", "uplink": "br0", "cidr": "10.0.0.0/24"},
		"vlan 4095":           {"name": "x", "mode": "bridge", "uplink": "br0", "vlan": 4095},
		"public nat":          {"name": "x", "cidr": "192.0.2.0/24"},
		"short ipv6":          {"name": "x", "ipv6_cidr": "fd00:1::/48"},
		"public ipv6 of nat":  {"name": "x", "ipv6_cidr": "2001:db8::/64"},
		"ipv4 as ipv6":        {"name": "x", "ipv6_cidr": "10.0.0.0/24"},
		"multicast":           {"name": "x", "ipv6_cidr": "ff02::/64"},
		"dhcp out of range":   {"name": "x", "cidr": "10.200.1.0/24", "dhcp": object{"start": "10.200.2.1", "end": "10.200.2.9"}},
		"a name that is none": {"name": "-x"},
	} {
		if p := create(body, http.StatusUnprocessableEntity); p.Code != "network.invalid" && !strings.HasPrefix(p.Code, "request.") {
			t.Errorf("%s: %+v", what, p)
		}
	}

	n := w.network(object{"name": "six", "cidr": "10.201.1.0/24", "ipv6": true})
	if !strings.HasPrefix(n.IPv6CIDR, "fd") || !strings.HasSuffix(n.IPv6CIDR, "/64") || n.IPv6Gateway == "" || n.Domain != "novacron.internal" {
		t.Errorf("network %+v", n)
	}
	w.fails(http.MethodPost, "/api/v1/networks", object{"name": "again", "cidr": "10.201.0.0/16"}, http.StatusConflict, "network.cidr_overlap")
	w.fails(http.MethodPost, "/api/v1/networks", object{"name": "again", "ipv6_cidr": n.IPv6CIDR}, http.StatusConflict, "network.cidr_overlap")
	routed := decode[vm.Network](t, w.doAs(admin, http.MethodPost, "/api/v1/networks", object{"name": "routed", "mode": "routed", "cidr": "203.0.113.0/24", "ipv6_cidr": "2001:db8:1::/64"}), http.StatusCreated)
	if routed.Mode != vm.NetworkRouted {
		t.Errorf("network %+v", routed)
	}

	// A node without the uplink refuses, and nothing stays.
	missing := "link show dev br7"
	w.refuse.Store(&missing)
	if p := create(object{"name": "wire", "mode": "bridge", "uplink": "br7"}, http.StatusConflict); p.Code != "network.uplink_refused" {
		t.Errorf("an uplink that is not there: %+v", p)
	}
	w.refuse.Store(nil)
	tagged := decode[vm.Network](t, w.doAs(admin, http.MethodPost, "/api/v1/networks", object{"name": "wire", "mode": "bridge", "uplink": "eth7", "vlan": 42}), http.StatusCreated)
	if tagged.CIDR != "" || tagged.DHCP != nil || tagged.VLAN != 42 {
		t.Errorf("network %+v", tagged)
	}

	// Change, with ETag.
	path := "/api/v1/networks/" + n.ID.String()
	tag := w.do(http.MethodGet, path, nil).Header().Get("ETag")
	changed := decode[vm.Network](t, w.do(http.MethodPatch, path, object{"name": "seven", "dhcp": object{"start": "10.201.1.50", "end": "10.201.1.51"}}, "If-Match", tag), http.StatusOK)
	if changed.Name != "seven" || changed.DHCP == nil || changed.DHCP.Start != "10.201.1.50" || changed.Version != n.Version+1 {
		t.Errorf("changed %+v", changed)
	}
	if p := decode[errs.Problem](t, w.do(http.MethodPatch, path, object{"name": "eight"}, "If-Match", tag), http.StatusPreconditionFailed); p.Code != "network.version_mismatch" {
		t.Errorf("%+v", p)
	}
	w.fails(http.MethodPatch, path, object{"dhcp": object{"start": "10.9.9.9", "end": "10.9.9.10"}}, http.StatusUnprocessableEntity, "network.invalid")
	w.fails(http.MethodPatch, path, object{"name": "routed"}, http.StatusConflict, "network.name_taken")
	w.fails(http.MethodPatch, "/api/v1/networks/"+tagged.ID.String(), object{"dhcp": object{"start": "10.9.9.9", "end": "10.9.9.10"}}, http.StatusUnprocessableEntity, "network.invalid")

	// Two addresses are two machines.
	image := w.image()
	for i := range 2 {
		if done := w.createOn(fmt.Sprintf("m-%d", i), image.ID, object{"network_id": n.ID}); done.Status != "succeeded" {
			t.Fatalf("create: %+v", done)
		}
	}
	body := createRequest("m-3", image.ID)
	body["networks"] = []object{{"network_id": n.ID}}
	w.fails(http.MethodPost, "/api/v1/vms", body, http.StatusConflict, "network.addresses_exhausted")
	body["networks"] = []object{{"network_id": n.ID, "ip_address": "10.201.1.50"}}
	w.fails(http.MethodPost, "/api/v1/vms", body, http.StatusConflict, "network.address_taken")
	hosts, err := w.driver.Hosts(t.Context(), n.ID)
	if err != nil || len(hosts) != 2 {
		t.Errorf("leases %+v, %v", hosts, err)
	}
}

func TestInterfaces(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	lan := w.network(object{"name": "lan", "cidr": "10.202.1.0/24", "ipv6_cidr": "fd02:2::/64"})
	group := decode[vm.SecurityGroup](t, w.do(http.MethodPost, "/api/v1/security-groups", object{"name": "web", "rules": []object{{"direction": "ingress", "protocol": "tcp", "port_min": 80}}}), http.StatusCreated)
	done := w.createOn("web-1", image.ID, object{"network_id": lan.ID, "mac": "52:54:00:aa:bb:cc", "ip_address": "10.202.1.77",
		"security_groups": []uuid.UUID{group.ID}, "bandwidth": object{"in_kbps": 1000}})
	if done.Status != "succeeded" {
		t.Fatalf("create: %+v", done)
	}
	id := done.TargetID
	path := "/api/v1/vms/" + id.String() + "/interfaces"
	first := w.interfaces(id)[0]
	if first.MAC != "52:54:00:aa:bb:cc" || first.IPAddress != "10.202.1.77" || first.IPv6Address != "fd02:2::5054:ff:feaa:bbcc" || first.Link != "up" ||
		!slices.Equal(first.SecurityGroups, []uuid.UUID{group.ID}) {
		t.Errorf("interface %+v", first)
	}
	p := policyOf(w.policy(), first.MAC)
	if p == nil || p.IP != "10.202.1.77" || p.InKbps != 1000 || !slices.Equal(p.Groups, first.SecurityGroups) {
		t.Fatalf("policy %+v of %+v", p, w.policy())
	}

	for _, bad := range []struct {
		body   object
		status int
		code   string
	}{
		{object{"network_id": uuid.New()}, 404, "network.not_found"},
		{object{"network_id": lan.ID, "security_groups": []uuid.UUID{uuid.New()}}, 404, "security_group.not_found"},
		{object{"network_id": lan.ID, "mac": "52:54:00:aa:bb:cc"}, 409, "interface.mac_taken"},
		{object{"network_id": lan.ID, "ip_address": "10.202.1.77"}, 409, "network.address_taken"},
		{object{"network_id": lan.ID, "ip_address": "10.202.1.1"}, 422, "interface.invalid"},
		{object{"network_id": lan.ID, "ip_address": "10.202.2.1"}, 422, "interface.invalid"},
		{object{"network_id": lan.ID, "mac": "01:00:5e:00:00:01"}, 422, "interface.invalid"},
		{object{"network_id": lan.ID, "mac": "x'; flush"}, 422, "interface.invalid"},
	} {
		w.fails(http.MethodPost, path, bad.body, bad.status, bad.code)
	}
	w.ends(http.MethodPost, path, object{}, "succeeded")
	nics := w.interfaces(id)
	page := decode[struct {
		Items      []map[string]any
		NextCursor string `json:"next_cursor"`
	}](t, w.do(http.MethodGet, path+"?limit=1&fields=id,mac", nil), http.StatusOK)
	if len(page.Items) != 1 || len(page.Items[0]) != 2 || page.Items[0]["mac"] != nics[0].MAC || (page.NextCursor != "") != (len(nics) > 1) {
		t.Errorf("a page of one of %d: %+v", len(nics), page)
	}
	if len(nics) != 2 || nics[1].OperationID != nil || nics[1].IPAddress == "" || len(nics[1].SecurityGroups) != 1 {
		t.Fatalf("interfaces %+v", nics)
	}
	second := path + "/" + nics[1].ID.String()
	if live, err := w.driver.Interfaces(t.Context(), id); err != nil || len(live) != 2 || live[1].MAC != nics[1].MAC {
		t.Errorf("the guest has %+v, %v", live, err)
	}
	w.ends(http.MethodPatch, second, object{"link": "down", "security_groups": []uuid.UUID{}, "bandwidth": object{"out_kbps": 5}}, "succeeded")
	if live, err := w.driver.Interfaces(t.Context(), id); err != nil || !live[1].Down {
		t.Errorf("the guest has %+v, %v", live, err)
	}
	if p := policyOf(w.policy(), nics[1].MAC); p == nil || !p.Down || p.OutKbps != 5 || len(p.Groups) != 0 {
		t.Errorf("policy %+v", p)
	}
	w.fails(http.MethodPatch, path+"/"+uuid.NewString(), object{"link": "up"}, 404, "interface.not_found")

	// A guest that does not let go: cut off all the same, and gone with the next stop.
	w.driver.HoldInterfaces(true)
	if failed := w.ends(http.MethodDelete, second, nil, "failed"); failed.Error.Code != "interface.held" {
		t.Errorf("%+v", failed.Error)
	}
	if policyOf(w.policy(), nics[1].MAC) != nil || len(w.interfaces(id)) != 1 {
		t.Error("an interface that was taken away still passes something")
	}
	w.driver.HoldInterfaces(false)
	w.act(id, "stop", object{"force": true})
	w.act(id, "start", nil)
	if live, err := w.driver.Interfaces(t.Context(), id); err != nil || len(live) != 1 {
		t.Errorf("the guest has %+v, %v", live, err)
	}
	w.fails(http.MethodDelete, "/api/v1/networks/"+lan.ID.String(), nil, 409, "network.in_use")
	if on := w.list("network_id=" + lan.ID.String()); len(on) != 1 || on[0].ID != id {
		t.Errorf("on the network are %+v", on)
	}
	if on := w.list("network_id=" + uuid.NewString()); len(on) != 0 {
		t.Errorf("on no network are %+v", on)
	}

	stranger := principal("*")
	for _, route := range [][2]string{{"GET", path}, {"GET", path + "/" + first.ID.String()}, {"DELETE", path + "/" + first.ID.String()}} {
		if p := decode[errs.Problem](t, w.doAs(stranger, route[0], route[1], nil), 404); p.Code != "vm.not_found" {
			t.Errorf("%v: %s", route, p.Code)
		}
	}
	w.ends(http.MethodDelete, "/api/v1/vms/"+id.String(), nil, "succeeded")
	w.ends(http.MethodDelete, "/api/v1/networks/"+lan.ID.String(), nil, "succeeded")
	decode[struct{}](t, w.do(http.MethodGet, "/api/v1/security-groups/"+group.ID.String(), nil), 200)
	if rec := w.do(http.MethodDelete, "/api/v1/security-groups/"+group.ID.String(), nil); rec.Code != 204 {
		t.Errorf("delete of the group: %d %s", rec.Code, rec.Body)
	}
	w.nothingLeft()
	w.eventually("the policy is empty of guests", func() bool { p := w.policy(); return len(p.Interfaces)+len(p.Groups)+len(p.Forwards) == 0 })
}

// TestInterfaceFaults fails before and after every step of every operation on interfaces, and undoes attachments without a trace.
func TestInterfaceFaults(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	id := w.create("web-1", image.ID).TargetID
	path := "/api/v1/vms/" + id.String() + "/interfaces"
	broken := errs.New(errs.Conflict, "test.broken", "it is broken")
	for _, kind := range []string{"attach", "update", "detach"} {
		for _, step := range []string{"network", "define", "interfaces"} {
			for _, when := range []string{"before do", "after do"} {
				t.Run(kind+" "+when+" "+step, func(t *testing.T) {
					w.failing(nil)
					if kind != "attach" {
						w.ends(http.MethodPost, path, object{}, "succeeded")
					}
					before := w.interfaces(id)
					w.failing(func(k, s, at string) error {
						if k == "vm.interface."+kind && s == step && at == when {
							return broken
						}
						return nil
					})
					switch kind {
					case "attach":
						w.ends(http.MethodPost, path, object{}, "failed")
					case "update":
						w.ends(http.MethodPatch, path+"/"+before[1].ID.String(), object{"link": "down"}, "failed")
					case "detach":
						w.ends(http.MethodDelete, path+"/"+before[1].ID.String(), nil, "failed")
					}
					w.failing(nil)
					m := w.get(id)
					if m.OperationID != nil || m.State != vm.StateRunning {
						t.Errorf("is %s, held by %v", m.State, m.OperationID)
					}
					if kind != "detach" && kind == "attach" && len(m.Networks) != 1 || kind == "detach" && len(m.Networks) != 1 {
						t.Errorf("interfaces %+v", m.Networks)
					}
					// Whatever was left half done, the next start or the next change makes it so.
					if kind == "update" {
						w.ends(http.MethodDelete, path+"/"+before[1].ID.String(), nil, "succeeded")
					}
					w.act(id, "restart", object{"force": true})
					live, err := w.driver.Interfaces(t.Context(), id)
					if err != nil || len(live) != 1 || live[0].MAC != m.Networks[0].MAC {
						t.Errorf("the guest has %+v, %v", live, err)
					}
					if p := w.policy(); len(p.Interfaces) != 1 {
						t.Errorf("policy %+v", p.Interfaces)
					}
				})
			}
		}
	}
	w.ends(http.MethodDelete, "/api/v1/vms/"+id.String(), nil, "succeeded")
	w.nothingLeft()
}

func TestSecurityGroupsAndForwards(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	const groups, forwards = "/api/v1/security-groups", "/api/v1/port-forwards"
	list := decode[struct{ Items []vm.SecurityGroup }](t, w.do(http.MethodGet, groups, nil), 200).Items
	if len(list) != 1 || !list[0].Default || len(list[0].Rules) != 2 {
		t.Fatalf("groups of a new tenant: %+v", list)
	}
	def := groups + "/" + list[0].ID.String()
	w.fails(http.MethodDelete, def, nil, 409, "security_group.is_default")
	id := w.create("web-1", image.ID).TargetID
	nic := w.interfaces(id)[0]
	ruleCount := func() int {
		for _, g := range w.policy().Groups {
			if g.ID == list[0].ID {
				return len(g.Rules)
			}
		}
		return 0
	}
	rule := decode[vm.SecurityRule](t, w.do(http.MethodPost, def+"/rules", object{"direction": "ingress", "protocol": "tcp", "port_min": 80, "port_max": 90, "remote_cidr": "192.0.2.0/24"}), 201)
	if rule.PortMax != 90 || ruleCount() != 3 {
		t.Errorf("rule %+v, in force %d", rule, ruleCount())
	}
	web := decode[vm.SecurityGroup](t, w.do(http.MethodPost, groups, object{"name": "web", "rules": []object{
		{"direction": "ingress", "remote_group_id": uuid.Nil}, {"direction": "egress", "protocol": "udp", "port_min": 53, "remote_group_id": list[0].ID}}}), 201)
	if len(web.Rules) != 2 || *web.Rules[0].RemoteGroupID != web.ID {
		t.Errorf("group %+v", web)
	}
	for _, bad := range []struct {
		body   object
		status int
		code   string
	}{
		{object{"direction": "ingress", "protocol": "tcp", "port_min": 80, "port_max": 90, "remote_cidr": "192.0.2.0/24"}, 409, "security_group.rule_exists"},
		{object{"direction": "ingress", "protocol": "icmp", "port_min": 8}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "protocol": "tcp", "port_min": 90, "port_max": 80}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "protocol": "tcp", "port_max": 80}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "remote_cidr": "192.0.2.1/24"}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "remote_cidr": "any; flush ruleset"}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "protocol": "icmpv6", "remote_cidr": "192.0.2.0/24"}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "remote_cidr": "192.0.2.0/24", "remote_group_id": web.ID}, 422, "security_group.invalid"},
		{object{"direction": "ingress", "remote_group_id": uuid.New()}, 404, "security_group.not_found"},
	} {
		w.fails(http.MethodPost, def+"/rules", bad.body, bad.status, bad.code)
	}
	w.fails(http.MethodPost, groups, object{"name": "web"}, 409, "security_group.name_taken")
	w.do(http.MethodPost, def+"/rules", object{"direction": "ingress", "remote_group_id": web.ID})
	w.fails(http.MethodDelete, groups+"/"+web.ID.String(), nil, 409, "security_group.in_use") // by a rule
	if rec := w.do(http.MethodDelete, def+"/rules/"+rule.ID.String(), nil); rec.Code != 204 || ruleCount() != 3 {
		t.Errorf("%d %s, in force %d", rec.Code, rec.Body, ruleCount())
	}
	w.fails(http.MethodDelete, def+"/rules/"+rule.ID.String(), nil, 404, "security_group.rule_not_found")
	tag := w.do(http.MethodGet, groups+"/"+web.ID.String(), nil).Header().Get("ETag")
	decode[vm.SecurityGroup](t, w.do(http.MethodPatch, groups+"/"+web.ID.String(), object{"description": "the web"}, "If-Match", tag), 200)
	if p := decode[errs.Problem](t, w.do(http.MethodPatch, groups+"/"+web.ID.String(), object{"name": "w"}, "If-Match", tag), 412); p.Code != "security_group.version_mismatch" {
		t.Errorf("%+v", p)
	}

	forward := decode[vm.PortForward](t, w.do(http.MethodPost, forwards, object{"vm_id": id, "host_port": 31234, "guest_port": 80, "source_cidr": "192.0.2.0/24"}), 201)
	if f := w.policy().Forwards; forward.InterfaceID != nic.ID || len(f) != 1 || f[0].GuestIP != nic.IPAddress || f[0].HostPort != 31234 {
		t.Errorf("forward %+v, in force %+v", forward, f)
	}
	drawn := decode[vm.PortForward](t, w.do(http.MethodPost, forwards, object{"vm_id": id, "protocol": "udp", "guest_port": 53}), 201)
	if drawn.HostPort < 30000 || drawn.HostPort > 32767 {
		t.Errorf("drawn %+v", drawn)
	}
	w.fails(http.MethodPost, forwards, object{"vm_id": id, "host_port": 31234, "guest_port": 81}, 409, "port_forward.port_taken")
	w.fails(http.MethodPost, forwards, object{"vm_id": id, "host_port": 22, "guest_port": 22}, 422, "port_forward.invalid")
	w.fails(http.MethodPost, forwards, object{"vm_id": id, "guest_port": 22, "source_cidr": "fd00::/8"}, 422, "port_forward.invalid")
	w.fails(http.MethodPost, forwards, object{"vm_id": uuid.New(), "guest_port": 22}, 404, "vm.not_found")
	stranger := principal("*")
	for _, path := range []string{forwards + "/" + forward.ID.String(), def, groups + "/" + web.ID.String()} {
		if rec := w.doAs(stranger, http.MethodGet, path, nil); rec.Code != 404 {
			t.Errorf("a stranger reads %s: %d", path, rec.Code)
		}
		if rec := w.doAs(stranger, http.MethodDelete, path, nil); rec.Code != 404 {
			t.Errorf("a stranger deletes %s: %d", path, rec.Code)
		}
	}
	if rec := w.do(http.MethodDelete, forwards+"/"+drawn.ID.String(), nil); rec.Code != 204 || len(w.policy().Forwards) != 1 {
		t.Errorf("%d, in force %+v", rec.Code, w.policy().Forwards)
	}

	// A guest that would not be protected does not start; it does once nft works again.
	w.act(id, "stop", object{"force": true})
	nft := "nft"
	w.refuse.Store(&nft)
	decode[vm.SecurityRule](t, w.do(http.MethodPost, def+"/rules", object{"direction": "ingress", "protocol": "tcp", "port_min": 7}), 201)
	begun := decode[op](t, w.do(http.MethodPost, "/api/v1/vms/"+id.String()+"/start", nil), 202)
	w.eventually("the start waits for the firewall", func() bool {
		o := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String(), nil), 200)
		return strings.Contains(fmt.Sprint(w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String(), nil).Body), "vm.firewall_unavailable") && o.Status == "running"
	})
	if m := w.get(id); m.State != vm.StateStopped {
		t.Errorf("without protection it is %s", m.State)
	}
	w.refuse.Store(nil)
	if o := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), 200); o.Status != "succeeded" {
		t.Errorf("start ended as %+v", o)
	}
	w.restartNode()
	w.eventually("the node is back", func() bool { return w.vm.Ready(t.Context()) == nil })
	if ruleCount() != 4 {
		t.Errorf("after the restart %d rules are in force", ruleCount())
	}
	w.ends(http.MethodDelete, "/api/v1/vms/"+id.String(), nil, "succeeded")
	if list := decode[struct{ Items []vm.PortForward }](t, w.do(http.MethodGet, forwards, nil), 200).Items; len(list) != 0 {
		t.Errorf("forwards outlive their machine: %+v", list)
	}
	w.nothingLeft()
}
