package functions

import (
	"fmt"
	"strings"
	"time"
)

// Destination is where the record of a task's end goes: to a function, which runs
// on it, or to a bucket, as the object Prefix + task id + ".json".
type Destination struct {
	Function Name   `json:"function,omitempty" yaml:"function,omitempty"`
	Bucket   string `json:"bucket,omitempty" yaml:"bucket,omitempty"`
	Prefix   string `json:"prefix,omitempty" yaml:"prefix,omitempty"` // only with a bucket
}

const (
	// mostDestinations is how many destinations one kind of end may have.
	mostDestinations = 8
	// longestPrefix leaves room for the name in a key, of which S3 takes 1024 bytes.
	longestPrefix = 900
	// resultBucket is where nodes put what tasks leave.
	resultBucket = "results"
)

// String names the destination: the same text for the same destination only.
func (d Destination) String() string {
	if d.Function != "" {
		return "function " + string(d.Function)
	}
	return "bucket " + d.Bucket + "/" + d.Prefix
}

// Key is the name of the object that the record of a task's end becomes.
func (d Destination) Key(id TaskID) string { return d.Prefix + string(id) + ".json" }

// fault names the field of d that is wrong, and why; empty when all is well.
func (d Destination) fault() (field, why string) {
	switch {
	case d.Function != "" && d.Bucket != "":
		return "bucket", "stands beside a function; write two destinations"
	case d.Function != "":
		if err := d.Function.Validate(); err != nil {
			return "function", err.Error()
		}
		if d.Prefix != "" {
			return "prefix", "is for a bucket"
		}
		return "", ""
	case d.Bucket == "":
		return "function", "is missing; a destination is a function or a bucket"
	}
	if err := BucketName(d.Bucket); err != nil {
		return "bucket", err.Error()
	}
	switch {
	case d.Bucket == resultBucket:
		return "bucket", resultBucket + " holds what tasks leave; use another"
	case len(d.Prefix) > longestPrefix:
		return "prefix", fmt.Sprintf("is over %d bytes", longestPrefix)
	case strings.ContainsFunc(d.Prefix, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }):
		return "prefix", "holds a control character or is not UTF-8"
	case d.Bucket == uploads && (strings.HasPrefix(d.Prefix, "in/") || strings.HasPrefix(d.Prefix, "ev/")):
		return "prefix", "belongs to the files of tasks; use another prefix or bucket"
	}
	return "", ""
}

// destinationsFault is fault for a whole list, whose name is list.
func destinationsFault(list string, all []Destination) (field, why string) {
	if len(all) > mostDestinations {
		return list, fmt.Sprintf("holds %d destinations, over %d", len(all), mostDestinations)
	}
	seen := make(map[Destination]bool, len(all))
	for i, d := range all {
		at := fmt.Sprintf("%s[%d]", list, i)
		if field, why := d.fault(); field != "" {
			return at + "." + field, why
		}
		if seen[d] {
			return at, "is written twice"
		}
		seen[d] = true
	}
	return "", ""
}

// Destinations checks the destinations of one task's end. The error names the
// field; list is the name of the whole.
func Destinations(list string, all []Destination) error {
	if field, why := destinationsFault(list, all); field != "" {
		return Invalid("bad_destination", "%s: %s", field, why).WithField(field)
	}
	return nil
}

// The bounds of Retries and of how long a task may wait.
const (
	mostRetries  = 10
	shortestWait = time.Second
	longestWait  = 7 * 24 * time.Hour
)

// Validate checks a policy. The error names the field.
func (r Retries) Validate() error {
	switch {
	case r.Max < 0 || r.Max > mostRetries:
		return Invalid("bad_retries", "retries.max: is out of range 0 to %d", mostRetries).WithField("retries.max")
	case r.Backoff < 0:
		return Invalid("bad_retries", "retries.backoff: is negative").WithField("retries.backoff")
	}
	return nil
}

// MaxAge checks how long a task may be about: whole seconds, since they are what
// is counted, or 0 for no limit of its own.
func MaxAge(d time.Duration) error {
	if d != 0 && (d < shortestWait || d > longestWait || d%time.Second != 0) {
		return Invalid("bad_max_age", "max_age: %s is not a number of whole seconds from 1s to 168h", d).WithField("max_age")
	}
	return nil
}
