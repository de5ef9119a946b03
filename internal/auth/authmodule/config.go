package authmodule

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"github.com/novacron/novacron/internal/auth/internal/password"
	"github.com/novacron/novacron/internal/auth/internal/token"
)

// Config is what can be set for the auth module.
type Config struct {
	// DataDir holds the signing keys (keys/*.pem) and, until it is changed, the first administrator's password. Absolute; no default.
	DataDir string
	// DatabaseURL is the PostgreSQL to use, with a login that may create the module's role and schema. No default.
	DatabaseURL string
	// MaxConns bounds the connections to it. Default 10.
	MaxConns int32
	// AccessTTL is how long an access token lives. Default 15 minutes; 1 minute to 24 hours.
	AccessTTL time.Duration
	// RefreshTTL is how long a session lives unused. Default 30 days; not below AccessTTL.
	RefreshTTL time.Duration
	// SessionTTL is how long a session lives, however much it is used. Default 90 days; not below RefreshTTL.
	SessionTTL time.Duration
	// Issuer and Audience are written into tokens and asked of them. Default "novacron" both.
	Issuer, Audience string
	// KeyRotation is how old the key that signs access tokens may become before the next one is made. Default 30 days; 0: it is made only when
	// somebody asks. At least a day otherwise.
	KeyRotation time.Duration
	// KeyPublishDelay is how long a new key is published before it signs. Default 10 minutes; at most 24 hours.
	KeyPublishDelay time.Duration
	// CacheEntries is how many verified tokens, and how many sessions, are remembered. Default 50000; some 0.5 KiB each.
	CacheEntries int
	// PasswordMemoryKiB, PasswordIterations and PasswordParallelism are the costs of argon2id. Defaults 19456, 2 and 1. Raised, they apply to each
	// account from its next login on.
	PasswordMemoryKiB   uint32
	PasswordIterations  uint32
	PasswordParallelism uint8
	// PasswordConcurrency is how many passwords are hashed at once; each takes PasswordMemoryKiB. Default: the number of cores.
	PasswordConcurrency int
	// PasswordQueue is how many callers may wait for that; more are turned away with 503. Default 64.
	PasswordQueue int
	// PasswordLinkTTL is how long a link to reset a password works. Default an hour; 5 minutes to 7 days.
	PasswordLinkTTL time.Duration
	// PublicURL is where people reach the API, "https://cloud.example.org", for links. Empty: links begin with the path, and no mail is sent.
	PublicURL string
	// OneTimePasswordTTL is how long a one-time password works. Default 72 hours; 1 minute to 30 days.
	OneTimePasswordTTL time.Duration
	// AuditRetention is how long audit records are kept. Default 365 days; 0: for ever. At least a day otherwise.
	AuditRetention time.Duration
	// SelfRegistration lets anybody make an account of their own. Default false.
	SelfRegistration bool
	// RegistrationTenant is the name of the tenant that they join. Default empty: each gets a tenant of their own.
	RegistrationTenant string
}

// Default gives the defaults.
func Default() Config {
	p := password.DefaultParams()
	return Config{
		MaxConns: 10, AccessTTL: 15 * time.Minute, RefreshTTL: 30 * 24 * time.Hour, SessionTTL: 90 * 24 * time.Hour,
		KeyRotation: 30 * 24 * time.Hour, KeyPublishDelay: 10 * time.Minute, Issuer: "novacron", Audience: "novacron", CacheEntries: 50_000,
		PasswordMemoryKiB: p.MemoryKiB, PasswordIterations: p.Iterations, PasswordParallelism: p.Parallelism,
		PasswordConcurrency: runtime.GOMAXPROCS(0), PasswordQueue: 64, PasswordLinkTTL: time.Hour, OneTimePasswordTTL: 72 * time.Hour,
		AuditRetention: 365 * 24 * time.Hour,
	}
}

// Validate reports everything that is wrong with the configuration at once.
func (c Config) Validate() error {
	var wrong []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf("auth: "+format, args...))
		}
	}
	refuse(!filepath.IsAbs(c.DataDir), "the data folder %q is not an absolute path", c.DataDir)
	refuse(c.DatabaseURL == "", "no database url")
	refuse(c.MaxConns < 2, "max_conns is %d, must be at least 2", c.MaxConns)
	refuse(c.AccessTTL < time.Minute || c.AccessTTL > 24*time.Hour, "access_ttl is %s, must be 1m to 24h", c.AccessTTL)
	refuse(c.RefreshTTL < c.AccessTTL, "refresh_ttl is %s, must not be below access_ttl, %s", c.RefreshTTL, c.AccessTTL)
	refuse(c.SessionTTL < c.RefreshTTL, "session_ttl is %s, must not be below refresh_ttl, %s", c.SessionTTL, c.RefreshTTL)
	refuse(c.KeyRotation != 0 && c.KeyRotation < 24*time.Hour, "key_rotation is %s, must be 0 or at least 24h", c.KeyRotation)
	refuse(c.KeyPublishDelay < 0 || c.KeyPublishDelay > 24*time.Hour, "key_publish_delay is %s, must be 0 to 24h", c.KeyPublishDelay)
	refuse(c.Issuer == "", "no issuer")
	refuse(c.Audience == "", "no audience")
	refuse(c.CacheEntries < 100, "cache_entries is %d, must be at least 100", c.CacheEntries)
	refuse(c.PasswordConcurrency < 1, "password_concurrency is %d, must be at least 1", c.PasswordConcurrency)
	refuse(c.PasswordLinkTTL < 5*time.Minute || c.PasswordLinkTTL > 7*24*time.Hour, "password_link_ttl is %s, must be 5m to 168h", c.PasswordLinkTTL)
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		refuse(err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil,
			"public_url %q does not look like https://HOST", c.PublicURL)
	}
	refuse(c.PasswordQueue < 0, "password_queue is %d, must not be negative", c.PasswordQueue)
	refuse(c.OneTimePasswordTTL < time.Minute || c.OneTimePasswordTTL > 30*24*time.Hour, "one_time_password_ttl is %s, must be 1m to 720h", c.OneTimePasswordTTL)
	refuse(c.AuditRetention != 0 && c.AuditRetention < 24*time.Hour, "audit_retention is %s, must be 0 or at least 24h", c.AuditRetention)
	if err := c.params().Validate(); err != nil {
		wrong = append(wrong, fmt.Errorf("auth: password hashing: %w", err))
	}
	return errors.Join(wrong...)
}

func (c Config) params() password.Params {
	return password.Params{MemoryKiB: c.PasswordMemoryKiB, Iterations: c.PasswordIterations, Parallelism: c.PasswordParallelism}
}

func (c Config) keyPlan() token.Plan {
	return token.Plan{PublishDelay: c.KeyPublishDelay, TokenLife: c.AccessTTL, Every: c.KeyRotation}
}

// keyDir and passwordFile are where the module keeps its files.
func (c Config) keyDir() string       { return filepath.Join(c.DataDir, "keys") }
func (c Config) auditDir() string     { return filepath.Join(c.DataDir, "audit") }
func (c Config) passwordFile() string { return filepath.Join(c.DataDir, "initial-admin-password") }
