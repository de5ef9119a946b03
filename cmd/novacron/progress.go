package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/novacron/novacron/internal/apiclient"
)

// progress shows how long work goes on. It goes to standard error, so that standard output stays clean.
type progress interface {
	operation(apiclient.Operation)
	end()
}

// progress picks the form: a bar on a terminal, lines elsewhere, nothing for scripts.
func (e *env) progress(title string) progress {
	_, tty := terminal(e.errOut)
	switch {
	case e.quiet || e.forScripts():
		return noProgress{}
	case tty:
		return newBarProgress(e, title)
	default:
		return &lineProgress{env: e, title: title}
	}
}

type noProgress struct{}

func (noProgress) operation(apiclient.Operation) {}
func (noProgress) end()                          {}

// stepOf says what an operation is at.
func stepOf(op apiclient.Operation) string {
	undoing := ""
	for i, s := range op.Steps {
		switch s.Status {
		case "running":
			text := fmt.Sprintf("%s (step %d of %d)", s.Name, i+1, len(op.Steps))
			if s.Attempts > 1 && s.Error != nil {
				text += fmt.Sprintf(", try %d: %s", s.Attempts, printable(s.Error.Detail))
			}
			return text
		case "failed", "undone":
			undoing = "undoing what was done"
		}
	}
	return undoing
}

// lineProgress writes a line when another step begins.
type lineProgress struct {
	env         *env
	title, last string
}

func (p *lineProgress) operation(op apiclient.Operation) {
	step := stepOf(op)
	if step == "" || step == p.last || op.Ended() {
		return
	}
	p.last = step
	fmt.Fprintf(p.env.errOut, "%s: %s\n", p.title, step)
}

func (p *lineProgress) end() {}

// barProgress draws a bar, which is gone when the work is done.
type barProgress struct {
	container *mpb.Progress
	bar       *mpb.Bar
	step      atomic.Value // string; written by operation, read by the drawing goroutine
}

const barWidth = 40

func newBarProgress(e *env, title string) *barProgress {
	p := &barProgress{container: mpb.New(mpb.WithOutput(e.errOut), mpb.WithWidth(barWidth))}
	p.step.Store("")
	p.bar = p.container.AddBar(100, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(title)),
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace),
			decor.Any(func(decor.Statistics) string { return " " + p.step.Load().(string) })))
	return p
}

func (p *barProgress) operation(op apiclient.Operation) {
	p.step.Store(stepOf(op))
	p.bar.SetCurrent(int64(min(op.Progress, 99))) // 100 would end the bar before its owner does
}

func (p *barProgress) end() {
	p.bar.Abort(true)
	p.container.Wait()
}

// uploading shows how much of a file is sent. size may be -1. tell may be called from any goroutine, end once.
func (e *env) uploading(title string, size int64) (tell func(sent int64), end func()) {
	_, tty := terminal(e.errOut)
	switch {
	case e.quiet || e.forScripts():
		return func(int64) {}, func() {}
	case !tty && size < 0:
		fmt.Fprintf(e.errOut, "uploading %s\n", title)
		return func(int64) {}, func() {}
	case !tty:
		fmt.Fprintf(e.errOut, "uploading %s (%s)\n", title, bytesText(size))
		return func(int64) {}, func() {}
	}
	container := mpb.New(mpb.WithOutput(e.errOut), mpb.WithWidth(barWidth))
	decorators := mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f", decor.WCSyncSpace),
		decor.AverageSpeed(decor.SizeB1024(0), " % .1f", decor.WCSyncSpace))
	name := mpb.PrependDecorators(decor.Name("uploading " + title))
	if size <= 0 {
		bar := container.AddSpinner(0, mpb.BarRemoveOnComplete(), name, mpb.AppendDecorators(decor.CurrentKibiByte("% .1f")))
		return bar.SetCurrent, func() { bar.Abort(true); container.Wait() }
	}
	bar := container.AddBar(size+1, mpb.BarRemoveOnComplete(), name, decorators) // the last byte is the server's answer
	return bar.SetCurrent, func() { bar.Abort(true); container.Wait() }
}

// clock writes a time for people who compare it with logs.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
