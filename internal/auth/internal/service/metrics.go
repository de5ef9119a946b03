package service

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Metrics are what the module tells Prometheus.
type Metrics struct {
	logins      *prometheus.CounterVec
	validations *prometheus.CounterVec
	valid       prometheus.Counter // validations with result "ok", looked up once: it is counted on every request
	hashes      prometheus.Histogram

	keyValidations *prometheus.CounterVec
	validKeys      prometheus.Counter
	keyReads       prometheus.Counter
	keyChanges     *prometheus.CounterVec

	codes *prometheus.CounterVec
	mails *prometheus.CounterVec
	links *prometheus.CounterVec
}

// NewMetrics registers the module's metrics; a nil registerer leaves them unregistered.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_auth_logins_total", Help: "Logins by result: ok, or the code of the error.",
		}, []string{"result"}),
		validations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "novacron_auth_token_validations_total", Help: "Validated access tokens by result: ok, or the code of the error.",
		}, []string{"result"}),
		hashes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "novacron_auth_password_hash_seconds", Help: "Time to hash or check a password, waiting included.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
	}
	m.valid = m.validations.WithLabelValues("ok")
	m.keyValidations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "novacron_auth_api_key_validations_total", Help: "Validated API keys by result: ok, or the code of the error.",
	}, []string{"result"})
	m.validKeys = m.keyValidations.WithLabelValues("ok")
	m.keyReads = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "novacron_auth_api_key_reads_total", Help: "Validations of API keys that had to ask the database.",
	})
	m.keyChanges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "novacron_auth_api_key_changes_total", Help: "Changes of API keys: api_key.created, .updated, .rotated or .revoked.",
	}, []string{"change"})
	m.codes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "novacron_auth_mfa_codes_total", Help: "Codes of second factors that were tried, by result: ok, or the code of the error.",
	}, []string{"result"})
	m.mails = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "novacron_auth_reset_mails_total", Help: "Mails with a link to reset a password: sent, failed (tried again), or given_up.",
	}, []string{"result"})
	m.links = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "novacron_auth_password_resets_total", Help: "Uses of links that reset a password, by result: ok, or the code of the error.",
	}, []string{"result"})
	return m, telemetry.Register(r, "auth", m.logins, m.validations, m.hashes, m.keyValidations, m.keyReads, m.keyChanges, m.codes, m.mails, m.links)
}

// result names an outcome. Only codes of our own become labels: there is a fixed number of them.
func result(err error) string {
	if err == nil {
		return "ok"
	}
	if e, isOurs := errors.AsType[*errs.Error](err); isOurs {
		return e.Code
	}
	return errs.ErrInternal.Code
}

func (m *Metrics) loggedIn(err error) { m.logins.WithLabelValues(result(err)).Inc() }

func (m *Metrics) validated(err error) {
	if err == nil {
		m.valid.Inc()
		return
	}
	m.validations.WithLabelValues(result(err)).Inc()
}

func (m *Metrics) keyValidated(err error) {
	if err == nil {
		m.validKeys.Inc()
		return
	}
	m.keyValidations.WithLabelValues(result(err)).Inc()
}

func (m *Metrics) hashed(took time.Duration) { m.hashes.Observe(took.Seconds()) }
