// Package auth is the contract of the auth module: who a caller is and what they may do.
//
// Modules ask it only when they have no principal yet; the gateway resolves one per request and everybody else authorises from
// it. The package is a leaf: it holds the Service interface, the structs that cross it, and its errors, and no behaviour.
// Changes of users, tenants, sessions, roles and API keys are told as event.Auth on the subject auth.events.
package auth
