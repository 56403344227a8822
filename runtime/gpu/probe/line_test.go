package probe

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

func read(text string) []line {
	var lines []line
	readLines(strings.NewReader(text), func(l line) bool { lines = append(lines, l); return true })
	return lines
}

const (
	reading0 = `{"reading":{"at":"2026-01-02T12:00:00Z","source":"nvml","status":"ok","devices":[{"uuid":"GPU-a","total":-1}]}}`
	event0   = `{"event":{"at":"2026-01-02T12:00:00Z","uuid":"GPU-a","xid":79}}`
)

func TestReadLines(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // r = reading, e = event, x = nonsense
	}{
		"both":              {reading0 + "\n" + event0 + "\n", "re"},
		"no last end":       {event0 + "\n" + reading0, "er"},
		"cut short":         {event0 + "\n" + reading0[:40], "ex"},
		"empty":             {"\n\r\n  \n" + event0 + "\r\n\n", "e"},
		"text":              {"NVRM: hello\n" + event0 + "\n", "xe"},
		"neither":           {"{}\n" + event0 + "\n", "xe"},
		"both in one":       {`{"reading":{"status":"ok","at":"2026-01-02T12:00:00Z"},"event":{}}` + "\n", "x"},
		"silent":            {strings.Replace(reading0, `"ok"`, `"silent"`, 1) + "\n", "x"}, // it is not the probe's to say
		"no status":         {strings.Replace(reading0, `"ok"`, `""`, 1) + "\n", "x"},
		"no time":           {strings.Replace(reading0, `"at":"2026-01-02T12:00:00Z",`, ``, 1) + "\n", "x"},
		"nameless GPU":      {strings.Replace(reading0, `"GPU-a"`, `""`, 1) + "\n", "x"},
		"twice the same":    {strings.Replace(reading0, `[{`, `[{"uuid":"GPU-a"},{`, 1) + "\n", "x"},
		"other type":        {strings.Replace(reading0, `-1`, `"much"`, 1) + "\n", "x"},
		"too long":          {strings.Repeat("x", maxLine+1) + "\n" + event0 + "\n", "xe"},
		"far too long":      {strings.Repeat("x", 3*maxLine) + "\n" + event0 + "\n", "xe"},
		"long, and no end":  {strings.Repeat("x", 3*maxLine), "x"},
		"as long as may be": {strings.Repeat(" ", maxLine-1-len(event0)) + event0 + "\n", "e"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, l := range read(c.text) {
				switch {
				case l.err != nil:
					got += "x"
				case l.Reading != nil:
					got += "r"
				case l.Event != nil:
					got += "e"
				}
			}
			if got != c.want {
				t.Errorf("lines are %q, not %q", got, c.want)
			}
		})
	}
	if l := read(strings.Repeat("x", maxLine+1) + "\n"); !errors.Is(l[0].err, errTooLong) {
		t.Errorf("error is %v", l[0].err)
	}
}

func TestReadLinesStops(t *testing.T) {
	n := 0
	readLines(strings.NewReader(strings.Repeat(event0+"\n", 10)), func(line) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("read %d lines", n)
	}
}

// TestReportsComeAsTheyWent: what gpuprobe writes is what the watcher reads.
func TestReportsComeAsTheyWent(t *testing.T) {
	size := rapid.Custom(func(t *rapid.T) functions.Bytes { return functions.Bytes(rapid.Int64Min(-1).Draw(t, "size")) })
	at := time.Date(2026, 1, 2, 12, 0, 0, 1, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		r := Report{Event: &Event{At: at, UUID: rapid.String().Draw(t, "of"), Xid: rapid.Uint64().Draw(t, "xid")}}
		if rapid.Bool().Draw(t, "is a reading") {
			reading := Reading{At: at, Source: "nvml", Status: OK, Message: rapid.String().Draw(t, "message"), Driver: "1", CUDA: "2"}
			for _, uuid := range rapid.SliceOfNDistinct(rapid.StringN(1, 9, -1), 0, 4, rapid.ID).Draw(t, "UUIDs") {
				d := Device{UUID: uuid, Index: rapid.Int().Draw(t, "index"), Minor: -1, MIG: rapid.Bool().Draw(t, "MIG"), Lost: rapid.Bool().Draw(t, "lost"),
					Total: size.Draw(t, "total"), Used: size.Draw(t, "used"), Free: size.Draw(t, "free"), Utilisation: -1, ECC: -1,
					Parent: "p", Profile: "1g.5gb", Can: []string{"nvenc"}, Recovery: 3, Error: "e", Remap: true, Model: "m", BusID: "b"}
				d.Processes = []Process{{PID: 1, Memory: size.Draw(t, "of process")}}
				reading.Devices = append(reading.Devices, d)
			}
			r = Report{Reading: &reading}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got := read(string(text) + "\n")
		if len(got) != 1 || got[0].err != nil || !reflect.DeepEqual(got[0].Report, r) {
			t.Fatalf("%s came as %+v", text, got)
		}
	})
}

func FuzzReadLines(f *testing.F) {
	f.Add(reading0 + "\n" + event0 + "\n")
	f.Add("{}\n[]\nnull\n")
	f.Add(reading0[:50])
	f.Fuzz(func(t *testing.T, text string) {
		lines := read(text)
		if len(lines) > strings.Count(text, "\n")+1 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range lines {
			if l.err != nil {
				continue
			}
			if (l.Reading == nil) == (l.Event == nil) {
				t.Errorf("let through %+v", l)
			}
			if l.Reading == nil {
				continue
			}
			for _, d := range l.Reading.Devices {
				if d.UUID == "" {
					t.Errorf("let through %+v", d)
				}
			}
		}
	})
}
