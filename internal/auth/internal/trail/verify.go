package trail

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/auth/internal/chain"
)

// Report is what a verification found.
type Report struct {
	OK       bool          `json:"ok" doc:"Nothing is wrong with what was verified."`
	Complete bool          `json:"complete" doc:"The end of the trail was reached. If not, go on with after=next_after."`
	Broken   *chain.Broken `json:"broken,omitempty" doc:"The first row that is not as it should be."`
	Verified int64         `json:"verified" doc:"Rows that were verified by this request."`
	Begins   int64         `json:"begins" doc:"The number before the first row: older ones were removed because of their age."`
	// NextAfter is where the next request goes on.
	NextAfter   int64      `json:"next_after" doc:"Number of the last row that was verified."`
	Head        string     `json:"head" doc:"The last row that was verified, as number:hash. Keep it elsewhere and pass it as expect later: what was cut off or made anew by then shows."`
	Checkpoints int        `json:"checkpoints" doc:"Signed heads that were held against rows."`
	Anchored    bool       `json:"anchored" doc:"The newest signed head was there, outside of the database, to be held against the end of the trail."`
	SignedAt    *time.Time `json:"signed_at,omitempty" doc:"When that one was signed. What was cut off and had come later than it does not show."`
	KeyID       string     `json:"key_id" doc:"Of the key that signs heads."`
}

// verifyBatch is how many rows are read at once.
const verifyBatch = 2000

// Verify follows the chain from behind the row after, at most limit rows. expect, if not nil, is a head that the caller has kept.
func (t *Trail) Verify(ctx context.Context, after int64, limit int, expect *chain.Head) (Report, error) {
	for attempt := 1; ; attempt++ {
		base, err := t.deps.Store.AuditBase(ctx)
		if err != nil {
			return Report{}, err
		}
		report, err := t.verify(ctx, base, after, limit, expect)
		if err != nil || report.Broken == nil || attempt == 3 {
			return report, err
		}
		// Rows may have been removed because of their age while we read.
		now, err := t.deps.Store.AuditBase(ctx)
		if err != nil {
			return Report{}, err
		}
		if now == nil || base != nil && now.Seq == base.Seq {
			return report, nil
		}
	}
}

func (t *Trail) verify(ctx context.Context, base *chain.Checkpoint, after int64, limit int, expect *chain.Head) (Report, error) {
	signer, err := t.openSigner()
	if err != nil {
		return Report{}, err
	}
	report := Report{KeyID: signer.KeyID()}
	// What is signed now is read before the rows: rows that come meanwhile do no harm.
	anchors, err := t.anchors(ctx, signer, &report, expect)
	if err != nil {
		return Report{}, err
	}
	from := chain.Head{Hash: chain.Genesis()}
	if base != nil {
		if !signer.Valid(*base) {
			report.Broken = &chain.Broken{Seq: base.Seq, Reason: "where the chain begins is not signed with the key of this installation"}
			return report, nil
		}
		from, report.Begins = base.Head, base.Seq
	}
	if after > from.Seq {
		hash, err := t.deps.Store.AuditAt(ctx, after)
		if err != nil {
			return Report{}, err
		}
		if hash == nil {
			report.Broken = &chain.Broken{Seq: after, Reason: "the row is missing"}
			return report, nil
		}
		from = chain.Head{Seq: after, Hash: hash}
	}
	check, err := t.follow(ctx, signer, from, limit, anchors, &report)
	if err != nil {
		return Report{}, err
	}
	report.Verified, report.NextAfter, report.Head = check.Verified, check.At.Seq, HeadText(check.At)
	if report.Complete && report.Broken == nil {
		for _, a := range anchors {
			switch {
			case a.Seq > check.At.Seq:
				report.Broken = &chain.Broken{Seq: check.At.Seq + 1, Reason: fmt.Sprintf("the end of the trail was cut off: there were rows up to number %d", a.Seq)}
			case a.Seq == from.Seq && !bytes.Equal(a.Hash, from.Hash):
				report.Broken = &chain.Broken{Seq: a.Seq, Reason: "the row is not the one that was signed or kept: the chain was made anew"}
			}
		}
	}
	report.OK = report.Broken == nil
	return report, nil
}

// follow checks the rows behind from.
func (t *Trail) follow(ctx context.Context, signer *chain.Signer, from chain.Head, limit int, anchors []chain.Checkpoint, report *Report) (*chain.Check, error) {
	check := chain.NewCheck(from, anchors)
	for left := limit; left > 0; {
		rows, err := t.deps.Store.AuditRows(ctx, check.At.Seq, min(left, verifyBatch))
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			report.Complete = true
			return check, nil
		}
		signed, err := t.deps.Store.AuditCheckpoints(ctx, check.At.Seq, rows[len(rows)-1].Seq)
		if err != nil {
			return nil, err
		}
		for _, c := range signed {
			switch {
			case c.KeyID != signer.KeyID(): // of another process's or an older key: proves nothing, disproves nothing
			case !signer.Valid(c):
				report.Broken = &chain.Broken{Seq: c.Seq, Reason: "the signature of the head at this row is false"}
				return check, nil
			default:
				check.Expect(c)
				report.Checkpoints++
			}
		}
		for _, r := range rows {
			if report.Broken = check.Next(r.AuditEntry, r.Text); report.Broken != nil {
				return check, nil
			}
		}
		left -= len(rows)
	}
	return check, nil
}

// anchors gives the heads that the trail must reach: the one outside of the database, the newest one in it, and the one that the caller has kept.
func (t *Trail) anchors(ctx context.Context, signer *chain.Signer, report *Report, expect *chain.Head) ([]chain.Checkpoint, error) {
	var anchors []chain.Checkpoint
	noted, err := signer.Noted()
	if err != nil {
		return nil, err
	}
	if noted != nil && signer.Valid(*noted) {
		report.Anchored, report.SignedAt = true, &noted.CreatedAt
		anchors = append(anchors, *noted)
	}
	newest, err := t.deps.Store.NewestAuditCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if newest != nil && signer.Valid(*newest) {
		anchors = append(anchors, *newest)
	}
	if expect != nil {
		anchors = append(anchors, chain.Checkpoint{Head: *expect, CreatedAt: t.deps.Now()})
	}
	return anchors, nil
}

// openSigner gives the signer, also before Start.
func (t *Trail) openSigner() (*chain.Signer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signer != nil {
		return t.signer, nil
	}
	return chain.OpenSigner(t.cfg.Dir)
}

// HeadText writes a place in the chain as number:hash.
func HeadText(h chain.Head) string { return fmt.Sprintf("%d:%x", h.Seq, h.Hash) }

// checkpoint signs the head of the chain, unless the chain does not fit what was signed before: then nothing is signed any more, so that the proof
// stays.
func (t *Trail) checkpoint(ctx context.Context) {
	if err := t.sign(ctx); err != nil && ctx.Err() == nil {
		t.deps.Log.WarnContext(ctx, "the head of the audit trail could not be signed; it will be tried again", "error", err)
	}
}

func (t *Trail) sign(ctx context.Context) error {
	head, err := t.deps.Store.AuditHead(ctx)
	if err != nil {
		return err
	}
	noted, err := t.signer.Noted()
	if err != nil {
		return err
	}
	if noted != nil {
		fits, err := t.fits(ctx, *noted, head)
		if err != nil {
			return err
		}
		if !fits {
			if !t.broken {
				t.deps.Log.ErrorContext(ctx, "the audit trail does not fit what was signed before; 'novacron audit verify' says where", "signed", HeadText(noted.Head), "head", HeadText(head))
			}
			t.broken = true
			t.metrics.broken.Set(1)
			return nil
		}
		if noted.Seq == head.Seq {
			return nil
		}
	}
	t.broken = false
	t.metrics.broken.Set(0)
	if head.Seq == 0 {
		return nil
	}
	now := t.deps.Now()
	c := t.signer.Sign(chain.KindHead, head, now)
	if err := t.deps.Store.InsertAuditCheckpoint(ctx, c); err != nil {
		return err
	}
	if err := t.signer.Note(c); err != nil {
		return err
	}
	if now.Sub(t.logged) >= logEvery { // where the log goes elsewhere, this is an anchor too
		t.logged = now
		t.deps.Log.InfoContext(ctx, "signed the head of the audit trail", "head", HeadText(head), "key_id", c.KeyID)
	}
	return nil
}

// logEvery is how often a signed head is logged.
const logEvery = 10 * time.Minute

// fits tells whether a signed head is still part of the chain.
func (t *Trail) fits(ctx context.Context, signed chain.Checkpoint, head chain.Head) (bool, error) {
	if !t.signer.Valid(signed) || signed.Seq > head.Seq {
		return false, nil
	}
	hash, err := t.deps.Store.AuditAt(ctx, signed.Seq)
	if err != nil {
		return false, err
	}
	if hash != nil {
		return bytes.Equal(hash, signed.Hash), nil
	}
	base, err := t.deps.Store.AuditBase(ctx)
	return base != nil && base.Seq >= signed.Seq && t.signer.Valid(*base), err
}
