package node

import (
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/node/streamdial"
)

// Config says what a node works with. NodeID, DataDir, Bus and Driver are needed; every zero of the others means its default.
type Config struct {
	NodeID  uuid.UUID // see LoadNodeID
	Name    string    // for people; default: the host's name
	DataDir string    // the node keeps everything in its folder "node"
	Version string    // of novacron, told in heartbeats
	Bus     bus.Bus
	Driver  driver.Driver     // opened and closed by the node
	Dialer  streamdial.Dialer // reaches the controller's streams
	// Firewall protects the guests; nil only in tests that are not about it. A node that has one starts no guest without it.
	Firewall Firewall
	// Run runs programs of the host where the hypervisor lives; nil only in tests that need none.
	Run     Command
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none

	ImageCacheBytes int64 // what images may take that nothing uses; 0: no bound

	BootIDPath string // file whose content tells one start of the host from the next; default: the kernel's

	HeartbeatInterval  time.Duration // default 5 s
	PollInterval       time.Duration // between two looks at every domain; default 10 s
	AddressInterval    time.Duration // between two questions for the addresses of a guest that has them; default 30 s
	NewAddressInterval time.Duration // the same while a network card has none; default 2 s
	PressInterval      time.Duration // between two presses of the power button of a guest that does not react; default 5 s
	FirewallInterval   time.Duration // between two looks at the firewall; default 30 s
	UnplugPatience     time.Duration // how long a guest may take to let go of an interface; default 30 s
	// AgentPatience is how long a guest agent may take to answer a question, and how long one that did not is left alone; default 5 s. A
	// question waits twice as long for those before it.
	AgentPatience   time.Duration
	MetricsInterval time.Duration // between two measurements of all guests; default 10 s, negative: none
	MetricsPerVM    bool          // whether the metrics have series for each guest
	ReportWait      time.Duration // before a report is sent again for the first time; default 200 ms
	Parallel        int           // commands at work at once; default 256, because most of them wait for guests
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname() // without a name the id has to do
	}
	if c.BootIDPath == "" {
		c.BootIDPath = bootIDPath
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v        *time.Duration
		standard time.Duration
	}{
		{&c.HeartbeatInterval, 5 * time.Second}, {&c.PollInterval, 10 * time.Second}, {&c.AddressInterval, 30 * time.Second},
		{&c.NewAddressInterval, 2 * time.Second}, {&c.PressInterval, 5 * time.Second},
		{&c.FirewallInterval, 30 * time.Second}, {&c.UnplugPatience, maxInterfaceUnplug}, {&c.ReportWait, 200 * time.Millisecond}, {&c.AgentPatience, 5 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.standard
		}
	}
	if c.MetricsInterval == 0 {
		c.MetricsInterval = 10 * time.Second
	}
	if c.Parallel <= 0 {
		c.Parallel = 256
	}
	return c
}
