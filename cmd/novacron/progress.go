package main

import (
	"fmt"
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress tells of long work: a bar on a terminal, a line for each step elsewhere, and nothing where the output is for a program.
type progress struct {
	out  io.Writer // nil: tell nothing
	bars *mpb.Progress
	bar  *mpb.Bar
	line string
}

func (c *cli) newProgress(out io.Writer) *progress {
	if c.quiet || c.output != "table" {
		return &progress{}
	}
	p := &progress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(30))
		p.bar = p.bars.AddBar(100, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.line + " " })),
			mpb.AppendDecorators(decor.Percentage()))
	}
	return p
}

// tell shows how far the work is, in percent, and what it is at.
func (p *progress) tell(percent int, line string) {
	switch {
	case p.bar != nil:
		p.line = line
		p.bar.SetCurrent(int64(percent))
	case p.out != nil:
		fmt.Fprintf(p.out, "%3d%% %s\n", percent, line)
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
