package guestagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// says makes an agent that answers every command with the same.
func says(answer []byte, err error) *Agent {
	return New(func(context.Context, []byte, time.Duration) ([]byte, error) { return answer, err }, time.Second)
}

// FuzzAnswers has the agent answer anything to everything: whatever it is, asking ends, what comes out is bounded and fit to be shown, and the
// error is one that tells users what to do.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{``, `{}`, `null`, `{"return":null}`, `{"return":{}}`, `{"return":[]}`, `{"return":1}`, `{"return":-1}`, `{"error":{"desc":"no"}}`,
		`{"return":{"pid":1,"exited":true,"exitcode":0,"out-data":"QQ==","version":"1","supported_commands":[{"name":"a","enabled":true}]}}`,
		`{"return":{"position":3,"count":1,"buf-b64":"QQ==","eof":true}}`, `{"return":{"out-data":"!"}}`, `{"return":[{"name":"\u001b[31m","mountpoint":"/","total-bytes":-1}]}`,
		`{"return":[{"user":"a","login-time":1e308}]}`, `{"return":[{"name":"e","ip-addresses":[{"ip-address":"::1%x","prefix":999}]}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		a := says(answer, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // what asks again and again gives up at once
		check := func(what string, err error) {
			var own *errs.Error
			if err != nil && !errors.As(err, &own) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
			if own != nil && (len(own.Message) > 2000 || strings.ContainsFunc(own.Message, unicode.IsControl)) {
				t.Errorf("%s: %q", what, own.Message)
			}
		}
		info, err := a.Info(ctx)
		check("info", err)
		if shown, err := json.Marshal(info); err != nil || len(shown) > 1<<20 {
			t.Errorf("info cannot be shown: %d bytes, %v", len(shown), err)
		}
		result, err := a.Exec(ctx, nodeapi.GuestExec{Command: "x", Timeout: time.Second})
		check("exec", err)
		if len(result.Stdout) > nodeapi.GuestOutputMax || len(result.Stderr) > nodeapi.GuestOutputMax {
			t.Errorf("exec gives %d and %d bytes", len(result.Stdout), len(result.Stderr))
		}
		_, err = a.Push(ctx, "/x", "", strings.NewReader("content"))
		check("push", err)
		_, err = a.SyncTime(ctx)
		check("time", err)
		_, err = a.OnlineMemory(ctx, 1<<30)
		check("memory", err)
		file, err := a.Open(ctx, "/x", 1000)
		check("open", err)
		if err == nil {
			var got bytes.Buffer
			check("copy", file.Copy(ctx, &got))
			if got.Len() > 1000 {
				t.Errorf("the file has %d bytes", got.Len())
			}
			check("close", file.Close(ctx))
		}
	})
}

// TestErrors: each of a driver's errors becomes one that users understand, and a secret in a command is in none of them.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want *errs.Error
	}{
		"none": {driver.ErrNoAgent, vm.ErrAgentUnavailable}, "silent": {driver.ErrAgentSilent, vm.ErrAgentUnavailable}, "busy": {driver.ErrAgentBusy, vm.ErrAgentBusy},
		"refusal": {&driver.AgentRefusal{Message: "no"}, vm.ErrAgentRefused}, "away": {nodeapi.ErrHypervisor, nodeapi.ErrHypervisor},
	} {
		err := says(nil, c.err).SetPassword(t.Context(), "root", "the secret", false)
		if !errors.Is(err, c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDirectly: a guest of a kind that has no shell runs programs itself, with what they print bounded all the same.
func TestDirectly(t *testing.T) {
	var asked []string
	a := New(func(_ context.Context, command []byte, _ time.Duration) ([]byte, error) {
		var c struct {
			Execute   string
			Arguments struct {
				Path string
				Env  []string
				Arg  []string
			}
		}
		if err := json.Unmarshal(command, &c); err != nil {
			return nil, err
		}
		asked = append(asked, c.Execute+" "+c.Arguments.Path+strings.Join(c.Arguments.Env, ",")+strings.Join(c.Arguments.Arg, ","))
		switch {
		case c.Execute == "guest-get-osinfo":
			return []byte(`{"return":{"id":"mswindows"}}`), nil
		case c.Execute == "guest-exec" && c.Arguments.Path == shellPath:
			return nil, &driver.AgentRefusal{Message: "not found"}
		case c.Execute == "guest-exec":
			return []byte(`{"return":{"pid":4}}`), nil
		}
		answer, err := json.Marshal(map[string]any{"return": map[string]any{"exited": true, "exitcode": 0, "out-data": make([]byte, nodeapi.GuestOutputMax+5)}})
		return answer, err
	}, time.Second)
	r, err := a.Exec(t.Context(), nodeapi.GuestExec{Command: `C:\x.exe`, Args: []string{"/?"}, Env: map[string]string{"A": "b"}, Timeout: time.Second})
	if err != nil || *r.ExitCode != 0 || len(r.Stdout) != nodeapi.GuestOutputMax || !r.StdoutTruncated {
		t.Errorf("it ended as %v, %v", r.ExitCode, err)
	}
	if len(asked) < 4 || asked[2] != `guest-exec C:\x.exeA=b/?` {
		t.Errorf("asked %q", asked)
	}
}

// TestOnlineMemory: the agent is asked to take up what is not in use, and nothing else.
func TestOnlineMemory(t *testing.T) {
	online, asked := map[uint64]bool{0: true, 8: false, 9: false}, []uint64{}
	a := New(func(_ context.Context, command []byte, _ time.Duration) ([]byte, error) {
		var c struct {
			Execute   string
			Arguments struct {
				Blocks []struct {
					Index  uint64 `json:"phys-index"`
					Online bool
				} `json:"mem-blks"`
			}
		}
		if err := json.Unmarshal(command, &c); err != nil {
			t.Error(err)
		}
		if c.Execute == "guest-get-memory-block-info" {
			return []byte(`{"return":{"size":134217728}}`), nil
		}
		if c.Execute == "guest-set-memory-blocks" {
			for _, b := range c.Arguments.Blocks {
				asked = append(asked, b.Index)
				online[b.Index] = b.Online && b.Index != 9 // which the guest refuses
			}
			return []byte(`{"return":[]}`), nil
		}
		var list []map[string]any
		for i, on := range online {
			list = append(list, map[string]any{"phys-index": i, "online": on, "can-offline": i != 0})
		}
		answer, err := json.Marshal(map[string]any{"return": list})
		return answer, err
	}, time.Second)
	done, err := a.OnlineMemory(t.Context(), 3*driver.MemoryBlock)
	slices.Sort(asked)
	if err != nil || done || !slices.Equal(asked, []uint64{8, 9}) || !online[8] {
		t.Errorf("done %t, %v; asked for %v, online are %v", done, err, asked, online)
	}
	delete(online, 9)
	if done, err := a.OnlineMemory(t.Context(), 3*driver.MemoryBlock); err != nil || done || len(asked) != 2 {
		t.Errorf("done %t with memory that the guest has not seen, %v; asked for %v", done, err, asked)
	}
	if done, err := a.OnlineMemory(t.Context(), 2*driver.MemoryBlock); err != nil || !done || len(asked) != 2 {
		t.Errorf("done %t, %v; asked for %v", done, err, asked)
	}
}
