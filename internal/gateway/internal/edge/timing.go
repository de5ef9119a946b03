package edge

import (
	"strconv"
	"time"
)

// PermissionTimings is needed in every tenant to be told where the time of a request went.
const PermissionTimings = "gateway:read"

// stages is how long the parts of a request took before its module was asked.
type stages struct {
	edge  time.Duration // checks and routing
	admit time.Duration // who it is, and whether they are let in
}

// timing is the value of Server-Timing (https://www.w3.org/TR/server-timing/). The times of the parts tell what is cached, who was looked up and
// how busy the installation is, so only those who run it are given them; other callers get the total, which they can measure
// themselves, and strangers nothing.
func (x *exchange) timing(module string, took time.Duration) string {
	switch {
	case !x.known:
		return ""
	case !x.principal.AllowsPlatform(PermissionTimings):
		return timing("total", time.Since(x.began))
	}
	return timing("edge", x.stages.edge) + ", " + timing("admit", x.stages.admit) + ", " + timing(module, took) + ", " + timing("total", time.Since(x.began))
}

// timing is one entry, in milliseconds.
func timing(name string, d time.Duration) string {
	return name + ";dur=" + strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64)
}
