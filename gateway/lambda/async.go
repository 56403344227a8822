package lambda

import (
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// What Lambda does with an asynchronous call whose configuration does not say:
// it tries twice more, after one minute and after two.
const (
	asyncRetries = 2
	asyncBackoff = time.Minute
)

// configure gives an asynchronous call what was set for those of its function. A
// function without a configuration keeps to its own spec, and so does a call in
// whatever the configuration leaves open.
func configure(c *intake.Call, s functions.AsyncConfig) {
	if s.LastModified.IsZero() {
		return
	}
	c.Retries = &functions.Retries{Max: asyncRetries, Backoff: functions.Duration(asyncBackoff)}
	if n := s.MaximumRetryAttempts; n != nil {
		c.Retries.Max = *n
	}
	c.MaxAge = s.MaximumEventAge.Std()
	c.OnSuccess, c.OnFailure = leadsTo(s.OnSuccess), leadsTo(s.OnFailure)
}

// leadsTo reads the ARN of a function or a bucket; nil when there is none.
func leadsTo(arn string) []functions.Destination {
	if bucket, ok := strings.CutPrefix(arn, "arn:aws:s3:::"); ok {
		return []functions.Destination{{Bucket: bucket}}
	}
	t, e := parseTarget(arn, "")
	if arn == "" || e != nil { // one that is wrong was refused when it was set
		return nil
	}
	return []functions.Destination{{Function: t.Name}}
}
