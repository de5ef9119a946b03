package libvirt

import (
	"context"
	"errors"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// stateOf translates libvirt's state and reason of a domain.
// Source: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState and the reason enums below it.
func stateOf(state libvirt.DomainState, reason int) (nodeapi.Observed, string) {
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED:
		return nodeapi.ObservedRunning, word(runningReasons, libvirt.DomainRunningReason(reason))
	case libvirt.DOMAIN_SHUTDOWN: // the guest is on its way out, its process still there
		return nodeapi.ObservedRunning, "shutting_down"
	case libvirt.DOMAIN_PAUSED:
		// While it starts a guest, libvirt holds its CPUs for a moment. To everybody else it is not there yet.
		if libvirt.DomainPausedReason(reason) == libvirt.DOMAIN_PAUSED_STARTING_UP {
			return nodeapi.ObservedStopped, "starting"
		}
		return nodeapi.ObservedPaused, word(pausedReasons, libvirt.DomainPausedReason(reason))
	case libvirt.DOMAIN_PMSUSPENDED:
		return nodeapi.ObservedPaused, "suspended_by_guest"
	case libvirt.DOMAIN_CRASHED:
		return nodeapi.ObservedCrashed, "panicked"
	case libvirt.DOMAIN_SHUTOFF:
		r := libvirt.DomainShutoffReason(reason)
		if r == libvirt.DOMAIN_SHUTOFF_CRASHED {
			return nodeapi.ObservedCrashed, "crashed"
		}
		return nodeapi.ObservedStopped, word(shutoffReasons, r)
	default:
		return nodeapi.ObservedStopped, driver.ReasonUnknown
	}
}

func word[K comparable](words map[K]string, k K) string {
	if w, ok := words[k]; ok {
		return w
	}
	return driver.ReasonUnknown
}

var (
	runningReasons = map[libvirt.DomainRunningReason]string{
		libvirt.DOMAIN_RUNNING_BOOTED: "booted", libvirt.DOMAIN_RUNNING_MIGRATED: "migrated",
		libvirt.DOMAIN_RUNNING_RESTORED: "restored", libvirt.DOMAIN_RUNNING_FROM_SNAPSHOT: "from_snapshot",
		libvirt.DOMAIN_RUNNING_UNPAUSED: "resumed", libvirt.DOMAIN_RUNNING_WAKEUP: "woken",
	}
	pausedReasons = map[libvirt.DomainPausedReason]string{
		libvirt.DOMAIN_PAUSED_USER: "paused", libvirt.DOMAIN_PAUSED_MIGRATION: "migrating", libvirt.DOMAIN_PAUSED_SAVE: "saving",
		libvirt.DOMAIN_PAUSED_DUMP: "dumping", libvirt.DOMAIN_PAUSED_IOERROR: "io_error", libvirt.DOMAIN_PAUSED_WATCHDOG: "watchdog",
		libvirt.DOMAIN_PAUSED_SNAPSHOT: "snapshot", libvirt.DOMAIN_PAUSED_CRASHED: "panicked",
		libvirt.DOMAIN_PAUSED_STARTING_UP: "starting", libvirt.DOMAIN_PAUSED_SHUTTING_DOWN: "shutting_down",
	}
	shutoffReasons = map[libvirt.DomainShutoffReason]string{
		libvirt.DOMAIN_SHUTOFF_SHUTDOWN: "shutdown", libvirt.DOMAIN_SHUTOFF_DESTROYED: "destroyed",
		libvirt.DOMAIN_SHUTOFF_MIGRATED: "migrated", libvirt.DOMAIN_SHUTOFF_SAVED: "saved",
		libvirt.DOMAIN_SHUTOFF_FAILED: "failed", libvirt.DOMAIN_SHUTOFF_DAEMON: driver.ReasonUnknown,
	}
	startedReasons = map[libvirt.DomainEventStartedDetailType]string{
		libvirt.DOMAIN_EVENT_STARTED_BOOTED: "booted", libvirt.DOMAIN_EVENT_STARTED_MIGRATED: "migrated",
		libvirt.DOMAIN_EVENT_STARTED_RESTORED: "restored", libvirt.DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: "from_snapshot",
		libvirt.DOMAIN_EVENT_STARTED_WAKEUP: "woken",
	}
	suspendedReasons = map[libvirt.DomainEventSuspendedDetailType]string{
		libvirt.DOMAIN_EVENT_SUSPENDED_PAUSED: "paused", libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED: "migrating",
		libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR: "io_error", libvirt.DOMAIN_EVENT_SUSPENDED_WATCHDOG: "watchdog",
	}
	stoppedReasons = map[libvirt.DomainEventStoppedDetailType]string{
		libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN: "shutdown", libvirt.DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
		libvirt.DOMAIN_EVENT_STOPPED_MIGRATED: "migrated", libvirt.DOMAIN_EVENT_STOPPED_SAVED: "saved",
		libvirt.DOMAIN_EVENT_STOPPED_FAILED: "failed",
	}
)

// resolveTimeout bounds the question to libvirtd that some events need.
const resolveTimeout = 10 * time.Second

// resolve works out what an event means. It answers false for events that change no state.
func (r rawEvent) resolve() (driver.Event, bool) {
	e := driver.Event{Kind: driver.EventState, VMID: r.vm, At: r.at}
	switch {
	case r.connected:
		return driver.Event{Kind: driver.EventConnected, At: time.Now()}, true
	case r.disconnected:
		return driver.Event{Kind: driver.EventDisconnected, At: time.Now()}, true
	case r.look:
		return r.ask(e)
	}
	switch r.event {
	case libvirt.DOMAIN_EVENT_STARTED:
		e.Observed, e.Reason = nodeapi.ObservedRunning, word(startedReasons, libvirt.DomainEventStartedDetailType(r.detail))
	case libvirt.DOMAIN_EVENT_RESUMED:
		// libvirt tells of the first run of the processors, too, before it tells of the start.
		e.Observed, e.Reason = nodeapi.ObservedRunning, "resumed"
		if s, err := r.status(); err == nil && s.Observed == nodeapi.ObservedRunning {
			e.Reason = s.Reason
		}
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		e.Observed, e.Reason = nodeapi.ObservedPaused, word(suspendedReasons, libvirt.DomainEventSuspendedDetailType(r.detail))
	case libvirt.DOMAIN_EVENT_PMSUSPENDED:
		e.Observed, e.Reason = nodeapi.ObservedPaused, "suspended_by_guest"
	case libvirt.DOMAIN_EVENT_CRASHED:
		e.Observed, e.Reason = nodeapi.ObservedCrashed, "panicked"
	case libvirt.DOMAIN_EVENT_STOPPED:
		detail := libvirt.DomainEventStoppedDetailType(r.detail)
		e.Observed, e.Reason = nodeapi.ObservedStopped, word(stoppedReasons, detail)
		e.Saved = detail == libvirt.DOMAIN_EVENT_STOPPED_SAVED
		if detail == libvirt.DOMAIN_EVENT_STOPPED_CRASHED {
			e.Observed, e.Reason = nodeapi.ObservedCrashed, "crashed"
		}
	case libvirt.DOMAIN_EVENT_DEFINED, libvirt.DOMAIN_EVENT_UNDEFINED:
		// Neither tells the state: a running domain can be redefined, and lives on when it is undefined.
		return r.ask(e)
	default: // SHUTDOWN: STOPPED follows when the process has ended
		return driver.Event{}, false
	}
	if e.Observed == nodeapi.ObservedRunning || e.Observed == nodeapi.ObservedPaused {
		e.Boot = r.boot
	}
	return e, true
}

// ask fills an event with the domain's state as it is now. It answers false while libvirtd is away: the list after the
// reconnection tells.
func (r rawEvent) ask(e driver.Event) (driver.Event, bool) {
	s, err := r.status()
	switch {
	case err == nil:
		e.Observed, e.Reason, e.Saved, e.Boot = s.Observed, s.Reason, s.Saved, s.Boot
	case errors.Is(err, nodeapi.ErrNotDefined):
		e.Observed, e.Reason = nodeapi.ObservedAbsent, "undefined"
	default:
		return driver.Event{}, false
	}
	return e, true
}

// status asks how the domain of the event is now.
func (r rawEvent) status() (driver.DomainState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	return r.driver.Status(ctx, r.vm)
}
