package functions

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// cron is a set of minutes of local time.
type cron struct {
	minute, hour, day, month, weekday uint64 // bit n: the number n is in the set; Sunday is 0
	first, last                       int    // years
	both                              bool   // a day must be in both sets of days; else, of two that were narrowed, in one
}

// span is what a field of an expression may hold.
type span struct {
	name     string
	low, top int
	names    []string // of low and what follows
}

var (
	monthNames   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdayNames = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}

	minuteSpan     = span{"minute", 0, 59, nil}
	hourSpan       = span{"hour", 0, 23, nil}
	daySpan        = span{"day of month", 1, 31, nil}
	monthSpan      = span{"month", 1, 12, monthNames}
	weekdaySpan    = span{"day of week", 0, 7, weekdayNames} // 0 and 7 are Sunday
	awsWeekdaySpan = span{"day of week", 1, 7, weekdayNames} // 1 is Sunday
)

// The years that AWS's expressions may name.
const (
	firstYear = 1970
	lastYear  = 2199
)

// parseCron reads five fields as crontab(5) has them, or AWS's six inside cron(...).
func parseCron(text string) (c cron, err error) {
	inner, aws := strings.CutPrefix(strings.TrimSpace(text), "cron(")
	if aws {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, ")"); !closed {
			return c, fmt.Errorf("the bracket of cron( is not closed")
		}
	}
	fields, want, days := strings.Fields(inner), 5, weekdaySpan
	if aws {
		want, days = 6, awsWeekdaySpan
	}
	if len(fields) != want {
		return c, fmt.Errorf("has %d fields, want %d", len(fields), want)
	}
	for i, f := range []struct {
		span
		set *uint64
	}{{minuteSpan, &c.minute}, {hourSpan, &c.hour}, {daySpan, &c.day}, {monthSpan, &c.month}, {days, &c.weekday}} {
		if *f.set, err = f.parse(fields[i]); err != nil {
			return c, err
		}
		if i == 2 || i == 4 {
			c.both = c.both || fields[i] == "?" || fields[i][0] == '*'
		}
	}
	c.first, c.last = firstYear, lastYear
	if aws {
		if (fields[2] == "?") == (fields[4] == "?") {
			return c, fmt.Errorf("one of day of month and day of week must be ?, and only one")
		}
		c.weekday >>= 1 // AWS counts from 1
		return c, c.years(fields[5])
	}
	if c.weekday&(1<<7) != 0 {
		c.weekday = c.weekday&^(1<<7) | 1
	}
	return c, nil
}

// years reads AWS's last field: * or one range or year.
func (c *cron) years(text string) error {
	if text == "*" {
		return nil
	}
	from, to, isRange := strings.Cut(text, "-")
	var err error
	if c.first, err = strconv.Atoi(from); err == nil {
		c.last = c.first
		if isRange {
			c.last, err = strconv.Atoi(to)
		}
	}
	if err != nil || c.first < firstYear || c.last > lastYear || c.first > c.last {
		return fmt.Errorf("year: %.40q is not *, a year or a range within %d-%d", text, firstYear, lastYear)
	}
	return nil
}

// parse reads one field: values, ranges and steps, separated by commas.
func (s span) parse(text string) (set uint64, err error) {
	if text == "?" && strings.HasPrefix(s.name, "day ") {
		text = "*"
	}
	for part := range strings.SplitSeq(text, ",") {
		whole, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > 59 {
				return 0, fmt.Errorf("%s: %.40q is not a step", s.name, stepText)
			}
		}
		low, top := s.low, s.top
		if whole != "*" {
			from, to, isRange := strings.Cut(whole, "-")
			if low, err = s.value(from); err != nil {
				return 0, err
			}
			if !stepped {
				top = low
			}
			if isRange {
				if top, err = s.value(to); err != nil {
					return 0, err
				}
			}
			if low > top {
				return 0, fmt.Errorf("%s: %.40q ends before it begins", s.name, whole)
			}
		}
		for n := low; n <= top; n += step {
			set |= 1 << n
		}
	}
	return set, nil
}

func (s span) value(text string) (int, error) {
	for i, name := range s.names {
		if strings.EqualFold(text, name) {
			return s.low + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < s.low || n > s.top || text[0] == '+' {
		return 0, fmt.Errorf("%s: %.40q is not in %d-%d", s.name, text, s.low, s.top)
	}
	return n, nil
}

// next is the first minute of the set after t, by the clock of t's location; the
// zero time when there is none. A minute that the clock leaves out is left out. One
// that it shows twice counts twice only if every hour is in the set.
func (c cron) next(t time.Time) time.Time {
	const mostYears = 9 // eight lie between leap years where a century is none
	t = t.Truncate(time.Minute).Add(time.Minute)
	everyHour := bits.OnesCount64(c.hour) == 24
	y, mo, d := t.Date()
	if y < c.first {
		y, mo, d = c.first, time.January, 1
	}
	for until := min(y+mostYears, c.last); y <= until; y, mo, d = time.Date(y, mo, d+1, 0, 0, 0, 0, time.UTC).Date() {
		if !c.hasDay(y, mo, d) {
			continue
		}
		noon := time.Date(y, mo, d, 12, 0, 0, 0, t.Location())
		u := noon.Add(-14 * time.Hour) // a day begins by then, whatever the clock does in it
		if u.Before(t) {
			u = t
		}
		for ; u.Sub(noon) < 14*time.Hour; u = u.Add(time.Minute) {
			hour, minute, _ := u.Clock()
			if c.hour&(1<<hour) != 0 && c.minute&(1<<minute) != 0 && u.Day() == d && (everyHour || !shownBefore(u)) {
				return u
			}
		}
	}
	return time.Time{}
}

func (c cron) hasDay(y int, mo time.Month, d int) bool {
	if c.month&(1<<mo) == 0 {
		return false
	}
	day := c.day&(1<<d) != 0
	weekday := c.weekday&(1<<time.Date(y, mo, d, 0, 0, 0, 0, time.UTC).Weekday()) != 0
	if c.both {
		return day && weekday
	}
	return day || weekday
}

// shownBefore reports whether the clock showed the same a little before, and was
// set back.
func shownBefore(u time.Time) bool {
	hour, minute, _ := u.Clock()
	for _, back := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour} {
		if h, m, _ := u.Add(-back).Clock(); h == hour && m == minute {
			return true
		}
	}
	return false
}
