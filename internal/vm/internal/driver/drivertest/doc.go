// Package drivertest holds the conformance suite that every implementation of driver.Driver passes.
package drivertest
