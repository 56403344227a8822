package functions

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		name  string
		sched Schedule
		after string
		want  []string // in UTC
	}{
		{"every five minutes", Schedule{Cron: "*/5 * * * *"}, "2026-01-01T00:01:30Z", []string{"2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"}},
		{"a list and a range", Schedule{Cron: "0,30 9-10 * * *"}, "2026-01-01T09:00:00Z", []string{"2026-01-01T09:30:00Z", "2026-01-01T10:00:00Z", "2026-01-01T10:30:00Z", "2026-01-02T09:00:00Z"}},
		{"working days", Schedule{Cron: "0 8 * * MON-FRI"}, "2026-01-02T08:00:00Z", []string{"2026-01-05T08:00:00Z"}},
		{"Sunday is 7 too", Schedule{Cron: "0 0 * * 7"}, "2026-01-01T00:00:00Z", []string{"2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"}},
		{"the 13th or a Friday", Schedule{Cron: "0 0 13 * 5"}, "2026-01-08T00:00:00Z", []string{"2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"}},
		{"a leap day", Schedule{Cron: "0 0 29 2 *"}, "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		{"AWS: noon", Schedule{Cron: "cron(0 12 * * ? *)"}, "2026-01-01T12:00:00Z", []string{"2026-01-02T12:00:00Z"}},
		{"AWS: Sunday is 1", Schedule{Cron: "cron(15 10 ? * 1 *)"}, "2026-01-01T00:00:00Z", []string{"2026-01-04T10:15:00Z"}},
		{"AWS: a step from a value", Schedule{Cron: "cron(5/20 8 ? JAN MON-FRI 2027)"}, "2026-06-01T00:00:00Z", []string{"2027-01-01T08:05:00Z", "2027-01-01T08:25:00Z", "2027-01-01T08:45:00Z", "2027-01-04T08:05:00Z"}},
		{"AWS: over", Schedule{Cron: "cron(0 0 1 1 ? 2027)"}, "2027-01-01T00:00:00Z", []string{""}},
		{"a zone", Schedule{Cron: "0 9 * * *", Timezone: "Europe/Berlin"}, "2026-03-28T00:00:00Z", []string{"2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"}},
		{"the clock leaves it out", Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}, "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"}},
		{"the clock shows it twice", Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}, "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"every hour, though the clock is set back", Schedule{Cron: "30 * * * *", Timezone: "Europe/Berlin"}, "2026-10-25T00:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
		{"a rate", Schedule{Rate: "5 minutes"}, "2026-01-01T00:05:00Z", []string{"2026-01-01T00:10:00Z", "2026-01-01T00:15:00Z"}},
		{"AWS: a rate", Schedule{Rate: "rate(1 day)"}, "2026-01-01T00:05:00Z", []string{"2026-01-02T00:00:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ticks, err := c.sched.Ticks()
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.after)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				at = ticks.Next(at)
				if got := at.Format(time.RFC3339); got != want && (want != "" || !at.IsZero()) {
					t.Fatalf("got %s, want %s", got, want)
				}
			}
		})
	}
}

func TestSchedulesThatAreRefused(t *testing.T) {
	for field, all := range map[string][]Schedule{
		"cron":     {{}, {Cron: "* * * *"}, {Cron: "60 * * * *"}, {Cron: "* 24 * * *"}, {Cron: "* * 0 * *"}, {Cron: "* * * 13 *"}, {Cron: "* * * * 8"}, {Cron: "5-1 * * * *"}, {Cron: "*/0 * * * *"}, {Cron: "? * * * *"}, {Cron: "+1 * * * *"}, {Cron: "0 0 30 2 *"}, {Cron: "cron(0 12 * * ? *"}, {Cron: "cron(0 12 * * * *)"}, {Cron: "cron(0 12 ? * ? *)"}, {Cron: "cron(0 12 L * ? *)"}, {Cron: "cron(0 12 ? * 0 *)"}, {Cron: "cron(0 12 1 * ? 1969)"}, {Cron: "cron(0 12 1 * ? 2030-2020)"}},
		"rate":     {{Rate: "minute"}, {Rate: "0 minutes"}, {Rate: "5 seconds"}, {Rate: "rate(5 minutes"}, {Rate: "367 days"}, {Rate: "-1 hours"}, {Rate: "1 hour", Cron: "* * * * *"}},
		"timezone": {{Cron: "* * * * *", Timezone: "Mars/Olympus"}, {Cron: "* * * * *", Timezone: "Local"}, {Rate: "1 hour", Timezone: "Europe/Berlin"}},
		"event":    {{Rate: "1 hour", Event: JSON("{")}},
	} {
		for _, s := range all {
			if _, got, why := s.ticks(); got != field {
				t.Errorf("%+v: %s %s, want %s", s, got, why, field)
			}
		}
	}
}

// TestNextIsTheFirstThatMatches: no minute between is in the set.
func TestNextIsTheFirstThatMatches(t *testing.T) {
	zones := []string{"", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"}
	fields := func(rt *rapid.T, name string, some ...string) string { return rapid.SampledFrom(some).Draw(rt, name) }
	rapid.Check(t, func(rt *rapid.T) {
		text := fields(rt, "minute", "*", "0", "*/7", "30-45", "59") + " " + fields(rt, "hour", "*", "0", "1-3", "23", "*/5") + " " +
			fields(rt, "day", "*", "1", "15-31", "31") + " " + fields(rt, "month", "*", "3,10,11", "2") + " " + fields(rt, "weekday", "*", "SUN", "1-5")
		ticks, err := Schedule{Cron: text, Timezone: rapid.SampledFrom(zones).Draw(rt, "zone")}.Ticks()
		if err != nil {
			if text[len(text)-1] == '*' { // the 31st of February
				rt.Skip(err)
			}
			rt.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1_750_000_000, 1_790_000_000).Draw(rt, "from"), 0).UTC()
		got := ticks.Next(from)
		if got.Sub(from) > 40*24*time.Hour {
			return // too far to look at every minute
		}
		c := ticks.cron
		for u := from.Truncate(time.Minute).Add(time.Minute); !u.After(got); u = u.Add(time.Minute) {
			at := u.In(ticks.zone)
			_, earlierOffset := at.Add(-2 * time.Hour).Zone()
			_, offset := at.Zone()
			repeated := offset < earlierOffset && at.Add(-time.Duration(earlierOffset-offset)*time.Second).Format("1504") == at.Format("1504")
			has := func(set uint64, n int) bool { return set>>n&1 == 1 }
			days := []bool{has(c.day, at.Day()), has(c.weekday, int(at.Weekday()))}
			in := has(c.minute, at.Minute()) && has(c.hour, at.Hour()) && has(c.month, int(at.Month())) &&
				(c.both && days[0] && days[1] || !c.both && (days[0] || days[1])) && (c.hour == 1<<24-1 || !repeated)
			if in != u.Equal(got) {
				rt.Fatalf("%s after %s: next is %s, and %s is in the set: %v", text, from, got, u, in)
			}
		}
	})
}

func FuzzTicks(f *testing.F) {
	for _, s := range []string{"* * * * *", "cron(0 12 * * ? *)", "rate(5 minutes)", "*/15 0-23/2 ? JAN,FEB MON-FRI", "cron(0/15 * ? * 2-6 2026-2030)", "1 day"} {
		f.Add(s, int64(1_780_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		from := time.Unix(unix%4_000_000_000, 0)
		for _, s := range []Schedule{{Cron: text}, {Rate: text}, {Cron: text, Timezone: "Europe/Berlin"}} {
			ticks, err := s.Ticks()
			if err != nil {
				continue
			}
			for at := from; ; {
				next := ticks.Next(at)
				if next.IsZero() || next.Sub(from) > 48*time.Hour {
					break
				}
				if !next.After(at) || next.Second() != 0 {
					t.Fatalf("%+v: %s follows %s", s, next, at)
				}
				at = next
			}
		}
	})
}
