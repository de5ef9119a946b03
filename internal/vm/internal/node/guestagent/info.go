package guestagent

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/novacron/novacron/internal/vm"
)

// Info asks for all that the agent tells of its guest. What it cannot or may not tell is named in Missing.
func (a *Agent) Info(ctx context.Context) (vm.GuestInfo, error) {
	info := vm.GuestInfo{Commands: []string{}, Users: []vm.GuestUser{}, Filesystems: []vm.GuestFilesystem{}, Interfaces: []vm.GuestInterface{}, Missing: []string{}}
	var about struct {
		Version  string `json:"version"`
		Commands []struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
		} `json:"supported_commands"`
	}
	if err := a.call(ctx, "guest-info", nil, &about); err != nil {
		return info, err
	}
	info.AgentVersion, info.At = clean(about.Version, maxText), time.Now().UTC()
	for _, c := range about.Commands {
		if c.Enabled && len(info.Commands) < maxList {
			info.Commands = append(info.Commands, clean(c.Name, maxText))
		}
	}
	slices.Sort(info.Commands)
	for _, part := range []struct {
		name string
		ask  func(context.Context, *vm.GuestInfo) error
	}{{"system", a.system}, {"hostname", a.hostname}, {"timezone", a.timezone}, {"users", a.users}, {"filesystems", a.filesystems}, {"interfaces", a.interfaces}} {
		err := part.ask(ctx, &info)
		switch {
		case err == nil:
		case errors.Is(err, vm.ErrAgentRefused) || errors.Is(err, vm.ErrAgentAnswer):
			info.Missing = append(info.Missing, part.name)
		default: // it hangs or has gone: there is no point in asking on
			return info, err
		}
	}
	return info, nil
}

func (a *Agent) system(ctx context.Context, info *vm.GuestInfo) error {
	var s struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		Pretty    string `json:"pretty-name"`
		VersionID string `json:"version-id"`
		Kernel    string `json:"kernel-release"`
		Machine   string `json:"machine"`
	}
	err := a.call(ctx, "guest-get-osinfo", nil, &s)
	info.System = vm.GuestSystem{ID: clean(s.ID, maxText), Name: clean(s.Name, maxText), PrettyName: clean(s.Pretty, maxText), VersionID: clean(s.VersionID, maxText),
		Kernel: clean(s.Kernel, maxText), Machine: clean(s.Machine, maxText)}
	return err
}

func (a *Agent) hostname(ctx context.Context, info *vm.GuestInfo) error {
	var h struct {
		Name string `json:"host-name"`
	}
	err := a.call(ctx, "guest-get-host-name", nil, &h)
	info.Hostname = clean(h.Name, maxText)
	return err
}

func (a *Agent) timezone(ctx context.Context, info *vm.GuestInfo) error {
	var z struct {
		Zone   string `json:"zone"`
		Offset int    `json:"offset"`
	}
	err := a.call(ctx, "guest-get-timezone", nil, &z)
	info.Timezone = vm.GuestTimezone{Name: clean(z.Zone, maxText), OffsetSeconds: max(-86400, min(z.Offset, 86400))}
	return err
}

func (a *Agent) users(ctx context.Context, info *vm.GuestInfo) error {
	var users []struct {
		User   string  `json:"user"`
		Domain string  `json:"domain"`
		Login  float64 `json:"login-time"`
	}
	err := a.call(ctx, "guest-get-users", nil, &users)
	for _, u := range users[:min(len(users), maxList)] {
		info.Users = append(info.Users, vm.GuestUser{Name: clean(u.User, maxText), Domain: clean(u.Domain, maxText), LoginAt: moment(u.Login)})
	}
	return err
}

// moment makes a time of seconds since 1970, and the beginning of that of what no calendar has.
func moment(seconds float64) time.Time {
	if math.IsNaN(seconds) || seconds < 0 || seconds > 1e11 {
		seconds = 0
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}

func (a *Agent) filesystems(ctx context.Context, info *vm.GuestInfo) error {
	var list []struct {
		Name  string `json:"name"`
		Mount string `json:"mountpoint"`
		Type  string `json:"type"`
		Total *int64 `json:"total-bytes"`
		Used  *int64 `json:"used-bytes"`
	}
	err := a.call(ctx, "guest-get-fsinfo", nil, &list)
	for _, f := range list[:min(len(list), maxList)] {
		info.Filesystems = append(info.Filesystems, vm.GuestFilesystem{Device: clean(f.Name, maxText), Mountpoint: clean(f.Mount, maxText), Type: clean(f.Type, maxText),
			TotalBytes: natural(f.Total), UsedBytes: natural(f.Used)})
	}
	return err
}

// natural drops what is no size.
func natural(n *int64) *int64 {
	if n != nil && *n < 0 {
		return nil
	}
	return n
}

func (a *Agent) interfaces(ctx context.Context, info *vm.GuestInfo) error {
	var list []struct {
		Name      string `json:"name"`
		MAC       string `json:"hardware-address"`
		Addresses []struct {
			IP     string `json:"ip-address"`
			Prefix int    `json:"prefix"`
		} `json:"ip-addresses"`
	}
	err := a.call(ctx, "guest-network-get-interfaces", nil, &list)
	for _, i := range list[:min(len(list), maxList)] {
		card := vm.GuestInterface{Name: clean(i.Name, maxText), MAC: clean(i.MAC, maxText), Addresses: []string{}}
		for _, address := range i.Addresses[:min(len(i.Addresses), maxList)] {
			ip, err := netip.ParseAddr(address.IP)
			if err != nil || len(address.IP) > maxText {
				continue
			}
			if p := netip.PrefixFrom(ip.WithZone(""), address.Prefix); p.IsValid() {
				card.Addresses = append(card.Addresses, p.String())
			}
		}
		info.Interfaces = append(info.Interfaces, card)
	}
	return err
}

// SetPassword sets the password of a user.
func (a *Agent) SetPassword(ctx context.Context, username, password string, hashed bool) error {
	return a.call(ctx, "guest-set-user-password", map[string]any{"username": username, "password": []byte(password), "crypted": hashed}, nil)
}

// clockSlack is how far a clock that was set may be off.
const clockSlack = 3 * time.Second

// setClock is for guests without the program that sets the clock of the hardware: their agents set neither clock (QEMU 7.2, qga/commands-posix.c).
const setClock = `date -u -s "@$1" >/dev/null`

// SyncTime sets the guest's clock to the node's.
func (a *Agent) SyncTime(ctx context.Context) (vm.GuestTime, error) {
	ahead := func() (time.Duration, error) {
		var ns int64
		begin := time.Now()
		if err := a.call(ctx, "guest-get-time", nil, &ns); err != nil {
			return 0, err
		}
		end := time.Now()
		return time.Unix(0, ns).Sub(begin.Add(end.Sub(begin) / 2)), nil
	}
	before, err := ahead()
	if err != nil {
		return vm.GuestTime{}, err
	}
	now := time.Now()
	err = a.call(ctx, "guest-set-time", map[string]any{"time": now.UnixNano()}, nil)
	if !errors.Is(err, vm.ErrAgentRefused) {
		return vm.GuestTime{OffsetMS: before.Milliseconds(), Time: now.UTC()}, err
	}
	isSet := func() bool { // the agent may also have set the clock and failed at that of the hardware
		after, lookErr := ahead()
		return lookErr == nil && after.Abs() < clockSlack
	}
	if !isSet() {
		now = time.Now()
		if a.run(ctx, setClock, strconv.FormatInt(now.Add(time.Second/2).Unix(), 10)) != nil || !isSet() {
			return vm.GuestTime{}, err // the agent's own words are the better ones
		}
	}
	return vm.GuestTime{OffsetMS: before.Milliseconds(), Time: now.UTC()}, nil
}
