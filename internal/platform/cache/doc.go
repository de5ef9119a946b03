// Package cache is the small cache behind sessions, throttles, status and rate limits: in process by default, Redis where several
// processes share one.
//
// What it holds may be lost at any time, by expiry, by lack of room, or with the server; the truth is elsewhere. Each method is one
// atomic step, also between processes. A cache that cannot be reached fails quickly with ErrUnavailable; whether that means to go on
// without or to refuse is the caller's to decide.
//
// Both implementations pass one suite. The Redis client is imported here and nowhere else. internal/app makes the cache; modules are
// given the interface, or the part of it that they name themselves.
package cache
