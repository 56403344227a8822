package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// texts returns the words of a picture, and fails the test when it is not
// well-formed or a coordinate is no number.
func texts(t testing.TB, svg []byte) []string {
	t.Helper()
	var found []string
	dec := xml.NewDecoder(bytes.NewReader(svg))
	inText := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		switch e := token.(type) {
		case xml.StartElement:
			inText = e.Name.Local == "text"
			for _, a := range e.Attr {
				if slices.Contains([]string{"x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "width", "height"}, a.Name.Local) {
					if v, err := strconv.ParseFloat(a.Value, 64); err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		case xml.CharData:
			if inText {
				found = append(found, string(e))
			}
		case xml.EndElement:
			inText = false
		}
	}
}

func TestBars(t *testing.T) {
	svg := Bars{Title: "One <task> & its end", Unit: "ms", Log: true, Bars: []Bar{
		{Label: "a & b", Text: "265 ms", Value: 265, Tail: 400},
		{Label: "ours", Text: "0.7 ms", Value: 0.7, Ours: true},
		{Label: "nothing", Text: "0", Value: 0},
	}}.SVG()
	words := texts(t, svg)
	for _, want := range []string{"One <task> & its end", "a & b", "265 ms", "ours", "0.7 ms", "ms", "0.1", "1", "10", "100", "1000"} {
		if !slices.Contains(words, want) {
			t.Errorf("no label %q in %q", want, words)
		}
	}
	if !strings.Contains(string(svg), "prefers-color-scheme:dark") {
		t.Error("no colours for a dark page")
	}
}

func TestLines(t *testing.T) {
	l := Lines{Title: "rate", XUnit: "in flight", YUnit: "per second", LogX: true, LogY: true, Ticks: []float64{1, 2, 4, 8, 16}, Series: []Series{
		{Name: "docker", Points: []Point{{1, 4}, {2, 7}, {16, 8}}},
		{Name: "ours", Ours: true, Points: []Point{{1, 80}, {16, 400}}},
		{Name: "none"},
	}}
	words := texts(t, l.SVG())
	for _, want := range []string{"rate", "docker", "ours", "none", "in flight", "per second", "1", "16", "1000"} {
		if !slices.Contains(words, want) {
			t.Errorf("no label %q in %q", want, words)
		}
	}
	if n := strings.Count(string(l.SVG()), "<circle"); n != 5 {
		t.Errorf("%d markers, want 5", n)
	}
}

func TestScale(t *testing.T) {
	log := newScale(true, 0, 100, []float64{1.5, 800, 0, -3})
	if log.low != 1 || log.top != 1000 || log.at(1) != 0 || log.at(1000) != 100 || log.at(0) != 0 || log.at(5000) != 100 {
		t.Errorf("%+v", log)
	}
	if got := math.Round(log.at(math.Sqrt(1000))); got != 50 {
		t.Errorf("the middle of a logarithmic scale is at %v", got)
	}
	linear := newScale(false, 0, 100, []float64{20, 40})
	if linear.at(0) != 0 || linear.at(40) != 100 || linear.at(20) != 50 {
		t.Errorf("%+v", linear)
	}
	if ticks := linear.ticks(); !slices.Equal(ticks, []float64{0, 10, 20, 30, 40}) {
		t.Errorf("ticks %v", ticks)
	}
}

func FuzzPictures(f *testing.F) {
	f.Add("title", "label", 1.0, 2.0, true)
	f.Add("<&\"'>", "\x00\xff", math.NaN(), math.Inf(1), false)
	f.Add("", "", -1.0, 0.0, true)
	f.Fuzz(func(t *testing.T, title, label string, v, w float64, log bool) {
		if math.Abs(v) > 1e12 || math.Abs(w) > 1e12 {
			t.Skip("no benchmark has such values")
		}
		if v != 0 && math.Abs(v) < 1e-12 || w != 0 && math.Abs(w) < 1e-12 {
			t.Skip("no benchmark has such values")
		}
		texts(t, Bars{Title: title, Log: log, Bars: []Bar{{Label: label, Value: v, Tail: w}}}.SVG())
		texts(t, Lines{Title: title, LogX: log, LogY: !log, Series: []Series{{Name: label, Points: []Point{{v, w}, {w, v}}}}}.SVG())
	})
}
