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
	if !x.known {
		return ""
	}
	var space [128]byte
	told := space[:0]
	if x.principal.AllowsPlatform(PermissionTimings) {
		told = append(timing(told, "edge", x.stages.edge), ", "...)
		told = append(timing(told, "admit", x.stages.admit), ", "...)
		told = append(timing(told, module, took), ", "...)
	}
	return string(timing(told, "total", time.Since(x.began)))
}

// timing appends one entry, in milliseconds.
func timing(to []byte, name string, d time.Duration) []byte {
	return strconv.AppendFloat(append(append(to, name...), ";dur="...), float64(d.Microseconds())/1000, 'f', -1, 64)
}
