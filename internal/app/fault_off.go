//go:build !faultinject

package app

// fault injects no faults into operations. A binary built with the tag faultinject has another one.
func fault() func(kind, step, when string) error { return nil }
