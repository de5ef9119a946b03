package gatewaymodule_test

import (
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/gateway"
)

// Whoever scrapes above the bound is told when to come back, as everywhere.
func TestTooManyScrapes(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 10), make(chan struct{})
	d := open(t, nil)
	d.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow"}, func() float64 { // holds scrapes up
		entered <- struct{}{}
		<-release
		return 1
	}))
	var scraping sync.WaitGroup
	for range 4 {
		scraping.Go(func() {
			if got := d.do(t, "GET", "/metrics", "", nil); got.status != 200 {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	for range 4 {
		<-entered
	}
	if got := d.do(t, "GET", "/metrics", "", nil); got.status != 503 || got.header.Get("Retry-After") != "1" || got.problem(t).Code != gateway.ErrOverloaded.Code {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	close(release)
	scraping.Wait()
	if got := d.do(t, "GET", "/metrics", "", nil); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}
