package functions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule starts a function at certain times. It has either Cron or Rate.
type Schedule struct {
	Cron     string `json:"cron,omitempty" yaml:"cron,omitempty"`         // five fields, or AWS's cron(...) of six
	Rate     string `json:"rate,omitempty" yaml:"rate,omitempty"`         // 5 minutes, or AWS's rate(5 minutes); counts from midnight UTC of 1970-01-01
	Timezone string `json:"timezone,omitempty" yaml:"timezone,omitempty"` // of Cron, such as Europe/Berlin; empty = UTC
	Event    JSON   `json:"event,omitempty" yaml:"event,omitempty"`       // empty = one as AWS EventBridge makes
}

const (
	// mostSchedules is how many a function may have.
	mostSchedules = 16
	// mostScheduleEvent is the largest event of a schedule, in bytes.
	mostScheduleEvent = 64 << 10
)

// Ticks are the times of a schedule.
type Ticks struct {
	cron  cron
	zone  *time.Location
	every time.Duration // 0 = by cron
}

// Next is the first tick after t, in UTC; the zero time when there is none.
func (k Ticks) Next(t time.Time) time.Time {
	if k.every > 0 {
		n := t.UnixNano() / int64(k.every)
		return time.Unix(0, (n+1)*int64(k.every)).UTC()
	}
	if t = k.cron.next(t.In(k.zone)); t.IsZero() {
		return t
	}
	return t.UTC()
}

// Ticks reads the schedule's times.
func (s Schedule) Ticks() (Ticks, error) {
	k, field, why := s.ticks()
	if field != "" {
		return k, Invalid("bad_schedule", "%s: %s", field, why).WithField(field)
	}
	return k, nil
}

// Identity is the same text for the same schedule only.
func (s Schedule) Identity() string {
	b, _ := json.Marshal(s) // Validate has refused an event that is no JSON
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// ticks is Ticks; field names what is wrong.
func (s Schedule) ticks() (k Ticks, field, why string) {
	k.zone = time.UTC
	switch {
	case s.Cron != "" && s.Rate != "":
		return k, "rate", "stands beside cron; write two schedules"
	case s.Cron == "" && s.Rate == "":
		return k, "cron", "is missing; a schedule has cron or rate"
	case len(s.Event) > mostScheduleEvent:
		return k, "event", fmt.Sprintf("holds %d bytes, over %d", len(s.Event), mostScheduleEvent)
	case len(s.Event) > 0 && !json.Valid(s.Event):
		return k, "event", "is not JSON"
	case s.Rate != "" && s.Timezone != "":
		return k, "timezone", "is for cron; a rate knows no clock"
	}
	var err error
	if s.Rate != "" {
		if k.every, err = parseRate(s.Rate); err != nil {
			return k, "rate", err.Error()
		}
		return k, "", ""
	}
	if s.Timezone != "" {
		if k.zone, err = time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
			return k, "timezone", fmt.Sprintf("%q is not known; write one such as Europe/Berlin", trim(s.Timezone))
		}
	}
	if k.cron, err = parseCron(s.Cron); err != nil {
		return k, "cron", err.Error()
	}
	if k.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() && k.cron.last > 2000 {
		return k, "cron", "names no time that ever comes"
	}
	return k, "", ""
}

// parseRate reads a number and minutes, hours or days.
func parseRate(text string) (time.Duration, error) {
	inner, aws := strings.CutPrefix(strings.TrimSpace(text), "rate(")
	if aws {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, ")"); !closed {
			return 0, fmt.Errorf("the bracket of rate( is not closed")
		}
	}
	bad := fmt.Errorf("%q is not a number and minutes, hours or days, up to 366 days", trim(text))
	number, unit, _ := strings.Cut(strings.TrimSpace(inner), " ")
	n, err := strconv.Atoi(number)
	one := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[strings.TrimSuffix(strings.TrimSpace(unit), "s")]
	const most = 366 * 24 * time.Hour
	if err != nil || n < 1 || one == 0 || n > int(most/one) {
		return 0, bad
	}
	return time.Duration(n) * one, nil
}

// schedulesFault names the field of a list of schedules that is wrong, and why.
func schedulesFault(all []Schedule) (field, why string) {
	if len(all) > mostSchedules {
		return "schedules", fmt.Sprintf("holds %d, over %d", len(all), mostSchedules)
	}
	seen := make(map[string]bool, len(all))
	for i, s := range all {
		at := fmt.Sprintf("schedules[%d]", i)
		if _, field, why := s.ticks(); field != "" {
			return at + "." + field, why
		}
		if id := s.Identity(); seen[id] {
			return at, "is written twice"
		} else {
			seen[id] = true
		}
	}
	return "", ""
}
