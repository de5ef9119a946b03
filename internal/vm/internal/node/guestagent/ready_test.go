package guestagent

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// TestReady: a guest is set up where cloud-init says so, or is not there at all; never because something was kept from the agent.
func TestReady(t *testing.T) {
	const (
		running  = `{"v1": {"stage": "modules-config", "modules-final": {"finished": null, "start": null}}}`
		between  = `{"v1": {"stage": null, "init": {"finished": 1.5}, "modules-final": {"finished": null}}}`
		finished = `{"v1": {"stage": null, "modules-final": {"finished": 1719300000.5}}}`
		denied   = "\x00Keine Berechtigung"
		missing  = "\x00Datei oder Verzeichnis nicht gefunden"
		disabled = "\x00Command guest-file-open has been disabled"
	)
	for name, c := range map[string]struct {
		result, status, others string // what a file holds, or after a NUL the refusal
		ready                  bool
	}{
		"done":                                  {"{}", running, missing, true},
		"at work":                               {missing, running, missing, false},
		"no cloud-init":                         {missing, missing, missing, true},
		"no files at all":                       {disabled, disabled, disabled, true},
		"no result, at work":                    {denied, running, missing, false},
		"no result, between two stages":         {denied, between, missing, false},
		"no result, but a status that tells":    {denied, finished, missing, true},
		"no result, a status without sense":     {denied, "not JSON", missing, false},
		"no result, no status there":            {denied, missing, missing, false},
		"neither may be read":                   {denied, denied, missing, false},
		"nothing may be read, but this is told": {denied, denied, denied, true},
	} {
		t.Run(name, func(t *testing.T) {
			open := map[int]*strings.Reader{}
			a := New(func(_ context.Context, command []byte, _ time.Duration) ([]byte, error) {
				var ask struct {
					Execute   string
					Arguments struct {
						Path          string
						Handle, Count int
						Offset        int64
						Whence        int
					}
				}
				if err := json.Unmarshal(command, &ask); err != nil {
					return nil, err
				}
				in, value := ask.Arguments, any(struct{}{})
				switch ask.Execute {
				case "guest-file-open":
					text := c.others
					switch in.Path {
					case initResult:
						text = c.result
					case initStatus:
						text = c.status
					}
					if words, refused := strings.CutPrefix(text, "\x00"); refused {
						return nil, &driver.AgentRefusal{Message: "failed to open file '" + in.Path + "': " + words}
					}
					open[len(open)] = strings.NewReader(text)
					value = len(open) - 1
				case "guest-file-seek":
					at, err := open[in.Handle].Seek(in.Offset, in.Whence)
					if err != nil {
						return nil, err
					}
					value = map[string]any{"position": at, "eof": false}
				case "guest-file-read":
					part := make([]byte, in.Count)
					n, _ := open[in.Handle].Read(part) // at the end there is nothing
					value = map[string]any{"count": n, "buf-b64": part[:n], "eof": n == 0}
				}
				return json.Marshal(map[string]any{"return": value})
			}, time.Second)
			if ready, _ := a.Ready(t.Context()); ready != c.ready {
				t.Errorf("ready: %v, want %v", ready, c.ready)
			}
		})
	}
}
