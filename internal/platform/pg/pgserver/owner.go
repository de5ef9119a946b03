package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner is the unprivileged user that the cluster belongs to and PostgreSQL runs as.
type owner struct {
	uid, gid int
	cred     *syscall.Credential // nil: the user of this process, nothing to switch
	name     string
}

// findOwner gives this process's own user, or, for root, the named one.
func findOwner(name string) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{uid: os.Geteuid(), gid: os.Getegid(), name: strconv.Itoa(os.Geteuid())}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if _, ok := errors.AsType[user.UnknownUserError](err); ok {
			return owner{}, ErrOwnerMissing.WithMeta("user", name).Wrap(err)
		}
		return owner{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("user %s: id: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("user %s: group: %w", name, err)
	}
	if uid == 0 {
		return owner{}, ErrOwnerMissing.WithMessage("PostgreSQL refuses to run as root, and %s is root", name)
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return owner{uid: int(uid), gid: int(gid), cred: cred, name: name}, nil
}

// privateDir makes sure that path is a real folder, mode 0700, of the owner's.
func (o owner) privateDir(path string) error {
	if err := os.Mkdir(path, 0o700); err == nil {
		if err := os.Chmod(path, 0o700); err != nil { // the umask may have taken bits away
			return err
		}
		if o.cred != nil {
			return os.Chown(path, o.uid, o.gid)
		}
		return nil
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.IsDir() || int(st.Uid) != o.uid || fi.Mode().Perm() != 0o700 {
		// Somebody else may have put it there, to listen in; following or repairing it would be a mistake.
		return fmt.Errorf("%s exists and is not a folder with mode 0700 of user %s", path, o.name)
	}
	return nil
}
