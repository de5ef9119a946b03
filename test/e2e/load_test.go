package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is a stream of one GET over kept connections. It speaks plain HTTP/1.1 by itself: net/http's client would take more of the machine
// than the servers that are measured.
type load struct {
	addr   string
	path   string
	header string // lines of the request's head, each with its end
	conns  int
	rate   int           // requests a second of all connections together; 0: each sends the next one as soon as it is answered
	during time.Duration // that is measured
	pid    int           // of the server, whose CPU time is counted
}

// measured is what a load has seen.
type measured struct {
	requests      int
	failed        int
	why           error // the first failure
	took          []time.Duration
	wall, cpu     time.Duration
	residentBytes int64 // of the server while all connections are open
}

func (m measured) at(p float64) time.Duration {
	if len(m.took) == 0 {
		return 0
	}
	return m.took[int(float64(len(m.took)-1)*p)].Round(10 * time.Microsecond)
}

// perCPU is how many requests the server answered in one second of its CPU time.
func (m measured) perCPU() float64 { return float64(m.requests) / m.cpu.Seconds() }

func (m measured) String() string {
	s := fmt.Sprintf("%6.0f requests per CPU-second (%5.1f µs each), %6.0f/s, p50 %v, p95 %v, p99 %v", m.perCPU(),
		float64(m.cpu.Microseconds())/float64(max(m.requests, 1)), float64(m.requests)/m.wall.Seconds(), m.at(.50), m.at(.95), m.at(.99))
	if m.failed > 0 {
		s += fmt.Sprintf(", %d FAILED: %v", m.failed, m.why)
	}
	return s
}

// run opens the connections, lets each warm up by one request, and measures.
func (l load) run(t *testing.T) measured {
	t.Helper()
	request := []byte("GET " + l.path + " HTTP/1.1\r\nHost: " + l.addr + "\r\n" + l.header + "\r\n")
	list := make([]*wire, l.conns)
	defer func() {
		for _, w := range list {
			if w != nil {
				_ = w.conn.Close()
			}
		}
	}()
	for i := range list {
		w, err := openWire(l.addr, i)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		list[i] = w
		if err := w.ask(request); err != nil {
			t.Fatalf("first request of connection %d: %v", i, err)
		}
	}
	var (
		mu  sync.Mutex // guards out
		out measured
		all sync.WaitGroup
	)
	begun, used := time.Now(), cpuOf(t, l.pid)
	end := begun.Add(l.during)
	for i, w := range list {
		all.Go(func() {
			var mine measured
			if l.rate > 0 {
				l.paced(&mine, w, request, begun, end, i)
			} else {
				for now := begun; now.Before(end) && mine.why == nil; {
					sent := now
					err := w.ask(request)
					now = time.Now()
					mine.note(err, now.Sub(sent))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out.requests += mine.requests
			out.failed += mine.failed
			out.took = append(out.took, mine.took...)
			if out.why == nil {
				out.why = mine.why
			}
		})
	}
	all.Wait()
	out.wall, out.cpu, out.residentBytes = time.Since(begun), cpuOf(t, l.pid)-used, residentOf(t, l.pid)
	slices.Sort(out.took)
	return out
}

// paced sends at a rate. The time of an answer counts from when its request was due, so that a server which stalls is not asked less.
func (l load) paced(m *measured, w *wire, request []byte, begun, end time.Time, i int) {
	period := time.Duration(float64(time.Second) * float64(l.conns) / float64(l.rate))
	due := begun.Add(period * time.Duration(i) / time.Duration(l.conns))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for due.Before(end) && m.why == nil {
		<-timer.C
		err := w.ask(request)
		m.note(err, time.Since(due))
		due = due.Add(period)
		timer.Reset(time.Until(due))
	}
}

func (m *measured) note(err error, took time.Duration) {
	if err != nil {
		m.failed++
		m.why = err
		return
	}
	m.requests++
	m.took = append(m.took, took)
}

// wire is one kept connection.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

// openWire connects from one of several loopback addresses, so that ports do not run out.
func openWire(addr string, i int) (*wire, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/5000))}, Timeout: patience} //nolint:gosec // there are far fewer
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, 1<<10)}, nil
}

// ask sends a request and reads its answer, which must be a 200 that tells its length.
func (w *wire) ask(request []byte) error {
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	if _, err := w.conn.Write(request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answered %q", bytes.TrimSpace(line))
	}
	length := -1
	for {
		if line, err = w.in.ReadSlice('\n'); err != nil {
			return fmt.Errorf("read the head of an answer: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return fmt.Errorf("read the length of an answer: %w", err)
			}
		}
	}
	if length < 0 {
		return errors.New("the answer does not tell its length")
	}
	if _, err := io.CopyN(io.Discard, w.in, int64(length)); err != nil {
		return fmt.Errorf("read the body of an answer: %w", err)
	}
	return nil
}

// cpuOf gives the CPU time that a process has used: fields 14 and 15 of proc_pid_stat(5), in ticks of a hundredth of a second.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // behind the name, which is field 2
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[14-3 : 16-3] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, resident int64
	if _, err := fmt.Sscan(string(raw), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
