package intake

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"

	"github.com/spillway/spillway/functions"
)

// The largest parts of a call that stay in the log. Together with an inline
// event they keep a message under the 1 MiB that NATS carries.
const (
	maxParams   = 64 * functions.KiB
	maxMetadata = 64 * functions.KiB
	maxKey      = 255 // bytes of a key or a call id
	maxInputs   = 64
)

// check refuses a call that could never run.
func check(c Call) error {
	if c.Policy != "" {
		if err := c.Policy.Validate(); err != nil {
			return err
		}
	}
	if c.ID != "" {
		if err := c.ID.Validate(); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		field string
		value json.RawMessage
		most  functions.Bytes
	}{{"event", c.Event, 0}, {"params", c.Params, maxParams}, {"metadata", c.Metadata, maxMetadata}} {
		if len(part.value) == 0 {
			continue
		}
		if part.most > 0 && len(part.value) > int(part.most) {
			return functions.NewError(functions.ErrTooLarge, "body_too_large", "%s holds %d bytes, over %s", part.field, len(part.value), part.most).
				WithHint("put large data in the event or in an input file").WithField(part.field)
		}
		if !json.Valid(part.value) {
			return functions.Invalid("bad_json", "the %s is not valid JSON", part.field).
				WithHint("send JSON, or name another Content-Type to send the body as a file").WithField(part.field)
		}
	}
	for _, id := range []struct{ field, value string }{{"Idempotency-Key", c.Key}, {"X-Call-Id", c.CallID}} {
		if len(id.value) > maxKey || strings.ContainsFunc(id.value, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return functions.Invalid("bad_header", "%s must be at most %d printable ASCII characters", id.field, maxKey).WithField(id.field)
		}
	}
	if c.Priority < -100 || c.Priority > 100 {
		return functions.Invalid("bad_priority", "priority %d is out of range -100 to 100", c.Priority).WithField("priority")
	}
	if c.Retries != nil {
		if err := c.Retries.Validate(); err != nil {
			return err
		}
	}
	if err := functions.MaxAge(c.MaxAge); err != nil {
		return err
	}
	if err := functions.Destinations("on_success", c.OnSuccess); err != nil {
		return err
	}
	if err := functions.Destinations("on_failure", c.OnFailure); err != nil {
		return err
	}
	return checkInputs(c.Inputs, c.Refs)
}

// checkWebhook refuses a URL that would never be called. Where its host leads is
// found out at the call.
func (d *Door) checkWebhook(url string) error {
	switch {
	case url == "":
		return nil
	case d.cfg.Web == nil:
		return functions.Invalid("no_webhooks", "this server calls no webhooks").WithField("webhook")
	}
	if err := d.cfg.Web.Check(url); err != nil {
		var known *functions.Error
		if errors.As(err, &known) {
			e := *known
			return e.WithField("webhook")
		}
		return err
	}
	return nil
}

func checkInputs(inputs []functions.Input, refs []Ref) error {
	if n := len(inputs) + len(refs); n > maxInputs {
		return functions.Invalid("too_many_inputs", "%d inputs, over %d", n, maxInputs).WithHint("send one archive").WithField("inputs")
	}
	seen := make(map[string]bool, len(inputs)+len(refs))
	take := func(name string) error {
		if seen[name] {
			return functions.Invalid("duplicate_input", "two inputs are named %q", name).WithHint("give each input its own name").WithField("inputs")
		}
		seen[name] = true
		return nil
	}
	for _, in := range inputs {
		if err := cmp.Or(functions.FileName(in.Name), take(in.Name)); err != nil {
			return err
		}
	}
	for i, r := range refs {
		r, err := r.named()
		if err != nil {
			return inField(err, i)
		}
		if err := take(r.Name); err != nil {
			return err
		}
	}
	return nil
}
