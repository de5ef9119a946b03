// Package totp makes and checks the one-time codes of authenticator apps (RFC 6238), and recovery codes for who has lost theirs.
//
// The parameters are those that every app knows: HMAC-SHA-1, six digits, thirty seconds. It keeps nothing: which codes were used is for the
// caller to remember, by the time step that Match gives. Only the auth module's service uses it.
package totp

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"image/png"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	// Digits and Period are the apps' defaults; many know no others.
	Digits = 6
	Period = 30 * time.Second
	// secretBytes is the length that RFC 4226, section 4, recommends.
	secretBytes = 20
	// drift is how many time steps the clock of a phone may be off: RFC 6238, section 5.2, recommends one.
	drift = 1
	// qrPixels is the edge of a QR code's picture.
	qrPixels = 300
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret makes a secret.
func NewSecret() []byte {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process first
	return secret
}

// Text gives a secret as people type it into an app.
func Text(secret []byte) string { return encoding.EncodeToString(secret) }

// URI gives the otpauth URI of a secret, which apps read from a QR code:
// https://github.com/google/google-authenticator/wiki/Key-Uri-Format
func URI(issuer, account string, secret []byte) string {
	q := url.Values{"secret": {Text(secret)}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {strconv.Itoa(Digits)},
		"period": {strconv.Itoa(int(Period.Seconds()))}}
	// Apps do not read "+" as a space.
	return "otpauth://totp/" + url.PathEscape(issuer) + ":" + url.PathEscape(account) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// PNG draws the QR code of an otpauth URI.
func PNG(uri string) ([]byte, error) {
	key, err := otp.NewKeyFromURL(uri)
	if err != nil {
		return nil, fmt.Errorf("read otpauth URI: %w", err)
	}
	picture, err := key.Image(qrPixels, qrPixels)
	if err != nil {
		return nil, fmt.Errorf("draw QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, fmt.Errorf("encode QR code: %w", err)
	}
	return b.Bytes(), nil
}

// Step gives the time step of a time.
func Step(t time.Time) int64 { return t.Unix() / int64(Period.Seconds()) }

// codeAt gives the code of a time step.
func codeAt(secret []byte, step int64, digits otp.Digits, algorithm otp.Algorithm) (string, error) {
	code, err := hotp.GenerateCodeCustom(Text(secret), uint64(step), hotp.ValidateOpts{Digits: digits, Algorithm: algorithm})
	if err != nil {
		return "", fmt.Errorf("compute code: %w", err)
	}
	return code, nil
}

// Code gives the code of a time.
func Code(secret []byte, t time.Time) (string, error) {
	return codeAt(secret, Step(t), otp.DigitsSix, otp.AlgorithmSHA1)
}

// Match tells whether a code is right at a time, and which time step it is of. Codes of steps up to last are not right any more: each counts
// once. Every step that comes into question is looked at, so the time tells nothing.
func Match(secret []byte, code string, t time.Time, last int64) (step int64, ok bool, err error) {
	now := Step(t)
	for s := now - drift; s <= now+drift; s++ {
		want, err := codeAt(secret, s, otp.DigitsSix, otp.AlgorithmSHA1)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && s > last {
			step, ok = s, true
		}
	}
	return step, ok, nil
}

// IsCode tells whether a text has the form of a one-time code; apps show a space in it, which Tidy takes away.
func IsCode(text string) bool {
	return len(text) == Digits && strings.Trim(text, "0123456789") == ""
}

// Tidy takes away what people type between the parts of a code, and makes letters small.
func Tidy(text string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
}

// Recovery codes have 80 random bits, so a hash without salt keeps them.
const (
	// RecoveryCodes is how many there are at first.
	RecoveryCodes = 10
	recoveryBytes = 10
)

// NewRecoveryCodes makes recovery codes, in groups that are easy to copy.
func NewRecoveryCodes() []string {
	codes := make([]string, RecoveryCodes)
	for i := range codes {
		raw := make([]byte, recoveryBytes)
		_, _ = rand.Read(raw)
		t := strings.ToLower(encoding.EncodeToString(raw))
		codes[i] = t[0:4] + "-" + t[4:8] + "-" + t[8:12] + "-" + t[12:16]
	}
	return codes
}

// HashRecoveryCode gives what a user's recovery code is known by.
func HashRecoveryCode(user uuid.UUID, code string) []byte {
	sum := sha256.Sum256([]byte("novacron recovery code\x00" + user.String() + "\x00" + Tidy(code)))
	return sum[:]
}
