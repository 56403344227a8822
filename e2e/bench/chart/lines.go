package chart

import (
	"fmt"
	"strings"
)

// Lines is one line for each series, with a legend.
type Lines struct {
	Title          string
	XUnit, YUnit   string
	LogX, LogY     bool
	Ticks          []float64 // of x; nil = chosen
	Series         []Series
	WithoutMarkers bool // for many points
}

// Series is one line: points in the order of x.
type Series struct {
	Name   string
	Ours   bool // drawn thicker
	Points []Point
}

// Point is one value at one place.
type Point struct{ X, Y float64 }

// colours differ in hue and in lightness, and serve on light and dark.
var colours = []string{"#0a84c6", "#d9730d", "#1a9e6b", "#c45ab3", "#c9a400", "#7a6ff0", "#e0524d", "#6b9fb8", "#8c8c5a", "#a0785a"}

// dashes tell lines apart where colours do not.
var dashes = []string{"", "7 3", "2 3", "10 3 2 3"}

// SVG draws it.
func (l Lines) SVG() []byte {
	const left, right, top, bottom = 64, width - 240, 50, 330
	var xs, ys []float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	x, y := newScale(l.LogX, left, right, xs), newScale(l.LogY, bottom, top, ys)
	ticks := l.Ticks
	if len(ticks) > 0 { // the ends are the caller's
		x.low, x.top = ticks[0], ticks[len(ticks)-1]
	} else {
		ticks = x.ticks()
	}
	c := &canvas{height: max(bottom+50, float64(top+20*len(l.Series)+10))}
	c.text(12, 24, "start", "title", l.Title)
	for _, v := range y.ticks() {
		c.line("grid", left, y.at(v), right, y.at(v))
		c.text(left-8, y.at(v)+4, "end", "soft", plain(v))
	}
	for _, v := range ticks {
		c.line("grid", x.at(v), bottom, x.at(v), bottom+5)
		c.text(x.at(v), bottom+18, "middle", "soft", plain(v))
	}
	c.text((left+right)/2, bottom+40, "middle", "soft", l.XUnit)
	c.text(left, top-10, "start", "soft", l.YUnit)
	for i, s := range l.Series {
		colour, dash, thick := colours[i%len(colours)], dashes[i/len(colours)%len(dashes)], 1.8
		class := "label"
		if s.Ours {
			thick, class = 3, "ours"
		} else if dash == "" {
			dash = dashes[i%len(dashes)]
		}
		var path strings.Builder
		for k, p := range s.Points {
			fmt.Fprintf(&path, "%c%s %s", "ML"[min(k, 1)], number(x.at(p.X)), number(y.at(p.Y)))
		}
		fmt.Fprintf(c, `<path d="%s" fill="none" stroke="%s" stroke-width="%s" stroke-dasharray="%s"/>`+"\n", path.String(), colour, number(thick), dash)
		for _, p := range s.Points {
			if !l.WithoutMarkers {
				fmt.Fprintf(c, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", number(x.at(p.X)), number(y.at(p.Y)), colour)
			}
		}
		at := float64(top + 20*i)
		fmt.Fprintf(c, `<path d="M%d %sL%d %s" stroke="%s" stroke-width="%s" stroke-dasharray="%s"/>`+"\n",
			right+16, number(at+6), right+44, number(at+6), colour, number(thick), dash)
		c.text(right+52, at+10, "start", class, s.Name)
	}
	return c.picture(l.Title)
}
