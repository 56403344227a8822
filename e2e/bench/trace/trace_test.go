package trace

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	invocations = "HashOwner,HashApp,HashFunction,Trigger,480,481,482\no,a,f1,timer,0,2,1\no,a,f2,http,30,0,5\n"
	durations   = "HashOwner,HashApp,HashFunction,Average,Count,percentile_Average_100,percentile_Average_0,percentile_Average_50\no,a,f1,5,3,100,10,20\no,a,f2,5,3,5000,0,0\n"
)

func folder(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{"invocations.csv": invocations, "durations.csv": durations} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	got, err := Read(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{ID: "f1", Trigger: "timer", PerMinute: []int{0, 2, 1}, Percentiles: []Percentile{{0, 10}, {0.5, 20}, {1, 100}}},
		{ID: "f2", Trigger: "http", PerMinute: []int{30, 0, 5}, Percentiles: []Percentile{{0, 0}, {0.5, 0}, {1, 5000}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("an empty folder is no error")
	}
}

func TestDuration(t *testing.T) {
	f := Function{Percentiles: []Percentile{{0, 10}, {0.5, 20}, {1, 100}}}
	for u, want := range map[float64]time.Duration{0: 10 * time.Millisecond, 0.25: 15 * time.Millisecond, 0.5: 20 * time.Millisecond, 0.75: 60 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := f.Duration(u); got != want {
			t.Errorf("at %v: %v, want %v", u, got, want)
		}
	}
	if got := (Function{}).Duration(0.5); got != 0 {
		t.Errorf("without durations: %v", got)
	}
}

func TestArrivals(t *testing.T) {
	all, err := Read(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Minutes: 2, Speed: 10, Clip: time.Second, Seed: 1}
	got := p.Arrivals(all)
	if len(got) != 32 { // two of f1, thirty of f2; the third minute is beyond
		t.Fatalf("%d arrivals, want 32", len(got))
	}
	for i, a := range got {
		if i > 0 && a.At < got[i-1].At {
			t.Fatalf("arrival %d at %v is before its forerunner", i, a.At)
		}
		if a.Duration > time.Second {
			t.Errorf("a body of %v is not clipped", a.Duration)
		}
		first, end := 0*time.Second, 6*time.Second // a minute, ten times faster
		if a.Function == 0 {
			first, end = 6*time.Second, 12*time.Second
		}
		if a.At < first || a.At >= end {
			t.Errorf("function %d at %v, want %v to %v", a.Function, a.At, first, end)
		}
	}
	if !reflect.DeepEqual(got, p.Arrivals(all)) {
		t.Error("the same seed gives another plan")
	}
	p.Seed = 2
	if reflect.DeepEqual(got, p.Arrivals(all)) {
		t.Error("another seed gives the same plan")
	}
}

func TestWithoutTop(t *testing.T) {
	all, err := Read(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	if left := WithoutTop(all); len(left) != 1 || left[0].ID != "f1" || len(all) != 2 || all[1].ID != "f2" {
		t.Errorf("left %+v of %+v", left, all)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(invocations, durations)
	f.Add("HashFunction,Trigger,1\nf,http,-1\n", "HashFunction,percentile_Average_50\nf,NaN\n")
	f.Add("HashFunction,Trigger,1\n\"f", "a\n\n\n")
	f.Fuzz(func(t *testing.T, i, d string) {
		all, err := ReadInvocations(strings.NewReader(i))
		if err != nil {
			return
		}
		byID, err := ReadDurations(strings.NewReader(d))
		total := 0
		for k := range all {
			if err == nil {
				all[k].Percentiles = byID[all[k].ID]
			}
			if total += all[k].Total(); total > 10_000 {
				t.Skip("too many to plan here")
			}
			before := time.Duration(-1)
			for u := 0.0; u <= 1; u += 0.125 {
				v := all[k].Duration(u)
				if v < before || v < 0 {
					t.Fatalf("durations of %q do not ascend: %v after %v at %v", all[k].ID, v, before, u)
				}
				before = v
			}
		}
		for _, a := range (Plan{Minutes: 5, Speed: 2, Clip: time.Second}).Arrivals(all) {
			if a.At < 0 || a.Duration < 0 || a.Duration > time.Second {
				t.Fatalf("arrival %+v", a)
			}
		}
	})
}
