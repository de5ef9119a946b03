// Package startstop runs background work that has a clear owner: whoever starts a loop stops it, and stopping waits.
//
// A Loop keeps one goroutine. Its zero value is ready; Start, Stop and Done may be called in any order, any number of times and from
// any goroutine: Stop without Start, Start of what runs already, Start again after Stop. Two runs of one loop never overlap. A panic
// of the work becomes an error instead of the end of the process.
//
// Any package may use it; it knows none of them.
package startstop
