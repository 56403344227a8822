package probe

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeepLost(t *testing.T) {
	whole := func(uuid string) Device { return Device{UUID: uuid} }
	gone := func(uuid string) Device { return Device{UUID: uuid, Lost: true} }
	part := func(uuid, of string, lost bool) Device { return Device{UUID: uuid, Parent: of, Lost: lost} }
	for name, c := range map[string]struct {
		before, now []Device
		want        string
	}{
		"lost, and not named":        {[]Device{whole("a"), gone("b")}, []Device{whole("a")}, "a !b"},
		"lost, and named":            {[]Device{gone("b")}, []Device{gone("b"), whole("a")}, "!b a"},
		"back":                       {[]Device{gone("b")}, []Device{whole("b")}, "b"},
		"taken out":                  {[]Device{whole("a"), whole("b")}, []Device{whole("a")}, "a"},
		"a divided one":              {[]Device{gone("b"), part("m", "b", true)}, nil, "!b !m"},
		"a divided one is back":      {[]Device{gone("b"), part("m", "b", true)}, []Device{whole("b"), part("n", "b", false)}, "b n"},
		"an instance taken away":     {[]Device{whole("b"), part("m", "b", false)}, []Device{whole("b")}, "b"},
		"an instance of a lost one":  {[]Device{gone("b"), part("m", "b", true)}, []Device{gone("b")}, "!b !m"},
		"the first reading of a GPU": {nil, []Device{whole("a")}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			var words []string
			for _, d := range keepLost(c.before, Reading{Status: OK, Devices: c.now}).Devices {
				word := d.UUID
				if d.Lost {
					word = "!" + word
				}
				words = append(words, word)
			}
			if got := strings.Join(words, " "); got != c.want {
				t.Errorf("devices are %q, not %q", got, c.want)
			}
		})
	}
	if r := keepLost([]Device{gone("a")}, Reading{Status: Mismatch}); len(r.Devices) != 0 {
		t.Errorf("of a driver that cannot be asked: %+v", r)
	}
}

// TestLostGPUOutlivesProbes: neither a new probe nor silence makes it forgotten.
func TestLostGPUOutlivesProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := act(t, Config{Program: program}, func(n int, a *actor) {
			r := Reading{At: time.Now(), Status: OK, Devices: []Device{{UUID: "a"}}}
			switch n {
			case 1, 4:
				r.Devices = append(r.Devices, Device{UUID: "b", Lost: n == 1})
			case 2:
				a.ends = end{-1, "signal: killed"}
			}
			a.tell(r)
		})
		w.run(t, 10*time.Second)
		var got []int
		for _, r := range w.readings {
			if r.Status != OK {
				continue
			}
			if got = append(got, len(r.Devices)); len(r.Devices) == 2 && r.Devices[1].Lost != (len(got) < 4) {
				t.Errorf("reading %d is %+v", len(got), r)
			}
		}
		if len(got) < 5 || got[0] != 2 || got[1] != 2 || got[2] != 2 || got[3] != 2 || got[4] != 1 {
			t.Errorf("numbers of devices are %v", got)
		}
	})
}
