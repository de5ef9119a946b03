// Package webhook sends events to the addresses that tenants have named. What is to be sent stands in the database; any number of processes may
// work on it, and one that dies is replaced when its claims run out. So a delivery is made at least once, and its receiver tells repetitions apart by
// the event's id.
//
// Signatures follow the Standard Webhooks specification, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// SecretPrefix begins every secret as it is shown.
const SecretPrefix = "whsec_"

// NewSecret makes a secret: 32 random bytes, and how they are shown.
func NewSecret() (secret []byte, shown string) {
	secret = make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process first
	return secret, SecretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// Sign makes the value of the header Webhook-Signature: one signature for each secret.
func Sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	var list []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + ".")) // a hash never fails to write
		mac.Write(body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}
