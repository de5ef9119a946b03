package token

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Plan says how keys follow each other. What is done with a key depends on the keys in the folder, the clock and the plan alone, so all
// processes that share the folder agree without asking each other.
type Plan struct {
	// PublishDelay is how long a new key is shown in the key set before it signs, so that whoever keeps the set knows it by then.
	PublishDelay time.Duration
	// TokenLife is how long a token lives: a key that no longer signs is kept for so long, and a little longer.
	TokenLife time.Duration
	// Every is how old the newest key may become before the next one is made; 0: none is made unasked.
	Every time.Duration
}

// The states of a key.
const (
	KeyNext     = "next"     // published, signs soon
	KeySigning  = "signing"  // signs
	KeyRetiring = "retiring" // no longer signs; tokens that it signed are still good
)

// KeyInfo tells of one key.
type KeyInfo struct {
	ID        string     `json:"id" doc:"What tokens and the key set name it by (kid)."`
	State     string     `json:"state" enum:"next,signing,retiring"`
	CreatedAt time.Time  `json:"created_at"`
	SignsAt   time.Time  `json:"signs_at" doc:"From when on it signs."`
	GoneAt    *time.Time `json:"gone_at,omitempty" doc:"From when on tokens that it signed are refused: all of them have expired by then."`
}

// spare is kept beyond the life of the last token, for clocks that are apart.
const spare = 2*Leeway + time.Minute

// born is when a key was made. Ids are UUIDs of version 7, which begin with the time (RFC 9562, section 5.7); a key that somebody named
// otherwise counts as the oldest.
func born(kid string) time.Time {
	id, err := uuid.Parse(kid)
	if err != nil || id.Version() != 7 {
		return time.Time{}
	}
	return time.Unix(id.Time().UnixTime()).UTC()
}

// describeKeys says what each key, newest first, is good for at a moment.
func (p Plan) describeKeys(kids []string, now time.Time) []KeyInfo {
	list := make([]KeyInfo, len(kids))
	for i, kid := range kids {
		list[i] = KeyInfo{ID: kid, CreatedAt: born(kid), SignsAt: born(kid).Add(p.PublishDelay)}
	}
	if len(list) == 0 {
		return list
	}
	// The first key of a folder, and the one that replaced all others, has nobody to wait for.
	oldest := &list[len(list)-1]
	oldest.SignsAt = oldest.CreatedAt
	signing := len(list) - 1
	for i, k := range list {
		if !k.SignsAt.After(now) {
			signing = i
			break
		}
	}
	for i := range list {
		switch {
		case i < signing:
			list[i].State = KeyNext
		case i == signing:
			list[i].State = KeySigning
		default:
			gone := list[i-1].SignsAt.Add(p.TokenLife + spare)
			list[i].State, list[i].GoneAt = KeyRetiring, &gone
		}
	}
	return list
}

// Keys tells of the keys, newest first.
func (r *Ring) Keys() []KeyInfo {
	set := r.keys.Load()
	return r.plan.describeKeys(set.ids, r.now())
}

// Rotate makes the next key, which signs when PublishDelay is over. Asked again before that, it makes none: the one that is next is the
// answer. At once means that the new key signs now and no older one is good any more: every access token is refused from then on.
func (r *Ring) Rotate(atOnce bool) error {
	unlock, err := lockDir(r.dir)
	if err != nil {
		return err
	}
	defer unlock()
	set, err := readKeys(r.dir)
	if err != nil {
		return err
	}
	if set == nil {
		return errors.New("no signing key is left in " + r.dir)
	}
	if known := r.plan.describeKeys(set.ids, r.now()); known[0].State != KeyNext || atOnce {
		if err := createKey(r.dir, r.now()); err != nil {
			return err
		}
	}
	if atOnce {
		for _, kid := range set.ids {
			if err := removeKey(r.dir, kid); err != nil {
				return err
			}
		}
	}
	return r.load()
}

// Tend makes the next key when it is due, and removes those that no token names any more. It tells whether it did either.
func (r *Ring) Tend() (changed bool, err error) {
	unlock, err := lockDir(r.dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	set, err := readKeys(r.dir)
	if err != nil || set == nil {
		return false, cmp.Or(err, errors.New("no signing key is left in "+r.dir))
	}
	now := r.now()
	known := r.plan.describeKeys(set.ids, now)
	for _, k := range known {
		if k.GoneAt != nil && k.GoneAt.Before(now) {
			if err := removeKey(r.dir, k.ID); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	if r.plan.Every > 0 && now.Sub(known[0].CreatedAt) >= r.plan.Every {
		if err := createKey(r.dir, now); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, r.load()
}

// load reads the folder now.
func (r *Ring) load() error {
	set, err := readKeys(r.dir)
	if err != nil || set == nil {
		return cmp.Or(err, errors.New("no signing key is left in "+r.dir))
	}
	r.keys.Store(set)
	return nil
}

// Reload reads the folder, because somebody else has changed it. It tells whether a key is gone that was known.
func (r *Ring) Reload() (lost bool, err error) {
	before := r.keys.Load()
	if err := r.load(); err != nil {
		return false, err
	}
	now := r.keys.Load()
	return slices.ContainsFunc(before.ids, func(kid string) bool { return now.public[kid] == nil }), nil
}

func removeKey(dir, kid string) error {
	path := filepath.Join(dir, kid+keySuffix)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove signing key: %w", err)
	}
	return nil
}
