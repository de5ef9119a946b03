// Package password turns passwords into argon2id hashes and checks them.
//
// Hashes are kept in the PHC string format, with their own parameters, so that parameters can be raised at any time: Verify says when a hash
// is out of date. Hashing needs much memory, so a Hasher bounds how much of it goes on at once. Only the auth module uses it.
package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params are the costs of argon2id (RFC 9106).
type Params struct {
	MemoryKiB   uint32
	Iterations  uint32
	Parallelism uint8
}

// DefaultParams are the OWASP Password Storage Cheat Sheet's for argon2id: 19 MiB, two passes, one lane.
func DefaultParams() Params { return Params{MemoryKiB: 19 * 1024, Iterations: 2, Parallelism: 1} }

const (
	saltBytes = 16
	keyBytes  = 32
	// A row of the database must not make the server use more than this.
	maxMemoryKiB   = 1 << 20
	maxIterations  = 64
	maxParallelism = 64
)

// Validate tells what is wrong with the parameters.
func (p Params) Validate() error {
	switch {
	case p.Parallelism < 1 || p.Parallelism > maxParallelism:
		return fmt.Errorf("parallelism is %d, must be 1 to %d", p.Parallelism, maxParallelism)
	case p.Iterations < 1 || p.Iterations > maxIterations:
		return fmt.Errorf("iterations is %d, must be 1 to %d", p.Iterations, maxIterations)
	case p.MemoryKiB < 8*uint32(p.Parallelism) || p.MemoryKiB > maxMemoryKiB: // RFC 9106, section 3.1: at least 8 KiB a lane
		return fmt.Errorf("memory is %d KiB, must be %d to %d", p.MemoryKiB, 8*uint32(p.Parallelism), maxMemoryKiB)
	}
	return nil
}

func (p Params) key(password string, salt []byte, length uint32) []byte {
	return argon2.IDKey([]byte(password), salt, p.Iterations, p.MemoryKiB, p.Parallelism, length)
}

// digest is a parsed hash.
type digest struct {
	params    Params
	salt, key []byte
}

func (d digest) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, d.params.MemoryKiB, d.params.Iterations,
		d.params.Parallelism, base64.RawStdEncoding.EncodeToString(d.salt), base64.RawStdEncoding.EncodeToString(d.key))
}

var errFormat = errors.New("not an argon2id hash in PHC string format")

// parse reads a hash in the PHC string format,
// https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
func parse(text string) (digest, error) {
	var d digest
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return d, errFormat
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &d.params.MemoryKiB, &d.params.Iterations, &d.params.Parallelism); err != nil {
		return d, errFormat
	}
	if err := d.params.Validate(); err != nil {
		return d, err
	}
	var saltErr, keyErr error
	d.salt, saltErr = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	d.key, keyErr = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if saltErr != nil || keyErr != nil || len(d.salt) < 8 || len(d.key) < 16 || len(d.key) > 128 || d.String() != text {
		return d, errFormat
	}
	return d, nil
}
