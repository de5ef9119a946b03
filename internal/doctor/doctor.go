// Package doctor looks at a host and tells what keeps it from running NovaCron well, and what to do about it.
//
// It changes nothing, and asks the host only through Host, so that tests can put any host in its place. The command 'novacron doctor' uses it.
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Status says how good or bad a result is.
type Status string

// The statuses, from good to bad.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, but not as well as it could
	Fail Status = "fail" // does not work
)

// Result is what one check found.
type Result struct {
	Check  string `json:"check"`            // what was looked at
	Status Status `json:"status"`           //
	Found  string `json:"found"`            // what there is
	Action string `json:"action,omitempty"` // what to do about it, for people
	Fix    string `json:"fix,omitempty"`    // a command that does so, where there is one
}

// Options say what the host is meant for.
type Options struct {
	DataDir     string // where NovaCron keeps everything
	LibvirtURI  string // "qemu:///system"
	Accel       string // what vm.libvirt.accel asks for: auto, kvm or tcg
	Listen      string // HOST:PORT of the API
	DatabaseURL string // not empty: PostgreSQL runs elsewhere
}

// check looks at one thing. It may find several, or nothing worth telling.
type check func(context.Context, Host, Options) []Result

// checkTimeout bounds one check. A libvirt that starts by itself when it is called may take a while.
const checkTimeout = 30 * time.Second

// Examine runs all checks, at the same time, and gives their results in a fixed order.
func Examine(ctx context.Context, host Host, opts Options) []Result {
	checks := []check{checkSystem, checkCPU, checkKVM, checkNested, checkLibvirt, checkQEMU, checkQEMUImg, checkPostgres, checkDataDir, checkMemory,
		checkClock, checkDNSMasq, checkFirewall, checkCgroup, checkFiles, checkListen}
	found := make([][]Result, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			found[i] = c(ctx, host, opts)
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}

// Worst gives the worst status of all.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Fail || r.Status == Warn && worst == OK {
			worst = r.Status
		}
	}
	return worst
}

func ok(name, found string) []Result { return []Result{{Check: name, Status: OK, Found: found}} }

func warn(name, found, action, fix string) []Result {
	return []Result{{Check: name, Status: Warn, Found: found, Action: action, Fix: fix}}
}

func fail(name, found, action, fix string) []Result {
	return []Result{{Check: name, Status: Fail, Found: found, Action: action, Fix: fix}}
}

// install is the command that installs packages of Debian's.
func install(packages string) string { return "apt-get install " + packages }
