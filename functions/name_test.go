package functions

import (
	"regexp"
	"testing"
	"time"
)

// The rules as their documentation words them: the hand-written checks must
// agree with these on any input.
var (
	nameRule = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\z`)
	uuidRule = regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z`)
)

func FuzzNames(f *testing.F) {
	const id = "0199aa00-0000-7000-8000-0123456789ab"
	for _, s := range []string{"", "a", "-a", "_", "A-b_9", "a b", "ä", "a\n", "0123456789012345678901234567890123456789012345678901234567890123",
		"01234567890123456789012345678901234567890123456789012345678901234", id, id + "\n", id[:35], id[:35] + "G", id[:35] + "A", "0199aa00_0000-7000-8000-0123456789ab", "0199aa0000000-7000-8000-0123456789ab"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := Name(s).Validate() == nil, nameRule.MatchString(s); got != want {
			t.Errorf("name %q: %v, want %v", s, got, want)
		}
		if got, want := NodeID(s).Validate() == nil, nameRule.MatchString(s); got != want {
			t.Errorf("node %q: %v, want %v", s, got, want)
		}
		if got, want := TaskID(s).Validate() == nil, uuidRule.MatchString(s); got != want {
			t.Errorf("id %q: %v, want %v", s, got, want)
		}
	})
}

func TestTimeOfAnID(t *testing.T) {
	for id, want := range map[TaskID]int64{
		"0199aa00-1234-7000-8000-0123456789ab": 0x0199aa001234,
		"00000000-0001-7fff-bfff-ffffffffffff": 1,
		"0199aa00-1234-4000-8000-0123456789ab": 0, // random, not by time
		"0199aa00-1234-7000-7000-0123456789ab": 0,
		"0199aa00-1234-7000-c000-0123456789ab": 0,
		"0199aa00-1234-7000-8000":              0,
		"":                                     0,
	} {
		if got := id.Time(); want == 0 != got.IsZero() || want != 0 && !got.Equal(time.UnixMilli(want)) {
			t.Errorf("%q: %v, want %d ms", id, got, want)
		}
	}
}
