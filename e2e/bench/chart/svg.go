// Package chart draws bars and lines as SVG: small pictures without scripts or
// fonts of their own, which follow a light and a dark page by the reader's
// setting.
package chart

import (
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// width of every picture, in pixels of its own scale.
const width = 760

// style has two sets of greys; the colours of the data serve on both.
const style = `<style>
text{font:12px -apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f}
.title{font-size:15px;font-weight:600}.soft{fill:#57606a}.ours{font-weight:600}
.grid{stroke:#d0d7de;stroke-width:1}.mark{stroke:#24292f;stroke-width:1.5}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#3d444d}.mark{stroke:#e6edf3}}
</style>
`

// canvas collects a picture's elements.
type canvas struct {
	strings.Builder
	height float64
}

func (c *canvas) picture(title string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" width="%d" height="%s" role="img" aria-label="%s">`+"\n",
		width, number(c.height), width, number(c.height), clean(title))
	fmt.Fprintf(&b, "<title>%s</title>\n%s", clean(title), style)
	b.WriteString(c.String())
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// text writes at a place; anchor is start, middle or end.
func (c *canvas) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(c, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`+"\n", number(x), number(y), anchor, class, clean(s))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(c, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", class, number(x1), number(y1), number(x2), number(y2))
}

func (c *canvas) rect(fill string, x, y, w, h float64) {
	fmt.Fprintf(c, `<rect x="%s" y="%s" width="%s" height="%s" rx="2" fill="%s"/>`+"\n", number(x), number(y), number(w), number(h), fill)
}

// clean escapes a text for XML, attributes included.
func clean(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

func number(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// scale maps values to pixels.
type scale struct {
	log      bool
	low, top float64 // values
	from, to float64 // pixels
}

// newScale covers values; a logarithmic one leaves out those that are not above 0.
func newScale(log bool, from, to float64, values []float64) scale {
	s := scale{log: log, low: math.Inf(1), top: math.Inf(-1), from: from, to: to}
	for _, v := range values {
		if !math.IsInf(v, 0) && !math.IsNaN(v) && (v > 0 || !log) {
			s.low, s.top = min(s.low, v), max(s.top, v)
		}
	}
	if s.low > s.top {
		s.low, s.top = 1, 10
	}
	if log {
		s.low, s.top = math.Pow(10, math.Floor(math.Log10(s.low)+1e-9)), math.Pow(10, math.Ceil(math.Log10(s.top)-1e-9))
		if s.low == s.top {
			s.top *= 10
		}
		return s
	}
	s.low = min(s.low, 0)
	if s.low == s.top {
		s.top++
	}
	return s
}

// at is the pixel of a value; outside the scale, its nearest end.
func (s scale) at(v float64) float64 {
	share := 0.0
	switch {
	case math.IsNaN(v):
	case !s.log:
		share = (v - s.low) / (s.top - s.low)
	case v > 0:
		share = math.Log(v/s.low) / math.Log(s.top/s.low)
	}
	return s.from + min(max(share, 0), 1)*(s.to-s.from)
}

// ticks are the values to label: powers of ten, or about five round ones.
func (s scale) ticks() []float64 {
	var t []float64
	if s.log {
		for v := s.low; v <= s.top*1.001; v *= 10 {
			t = append(t, v)
		}
		return t
	}
	step := math.Pow(10, math.Floor(math.Log10((s.top-s.low)/5)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (s.top-s.low)/(step*m) <= 6 {
			step *= m
			break
		}
	}
	for i := math.Ceil(s.low / step); i*step <= s.top; i++ {
		t = append(t, i*step)
	}
	return t
}

// plain writes a tick's value without an exponent.
func plain(v float64) string {
	if v >= 10000 {
		return strconv.FormatFloat(v/1000, 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}
