package entry

import (
	"net/url"
	"strconv"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/entry/wire"
)

// LogURI is where containerd sends a container's output, as its binary loggers
// are written: to the entry program that Install returned, which keeps it in a
// log of package framelog. containerd lets the logger end when the task is
// deleted, not when it exits: only then has the log its end.
func LogURI(program, path string, limit functions.Bytes) *url.URL {
	// One pair alone: of several the order in which they come is not known.
	query := url.Values{wire.RoleLog: {strconv.FormatInt(int64(limit), 10) + ":" + path}}
	return &url.URL{Scheme: "binary", Path: program, RawQuery: query.Encode()}
}
