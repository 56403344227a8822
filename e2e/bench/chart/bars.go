package chart

// Bars is one bar for each value, from top to bottom.
type Bars struct {
	Title, Unit string
	Log         bool
	Bars        []Bar
}

// Bar is one value.
type Bar struct {
	Label string
	Text  string // what is written at its end
	Value float64
	Tail  float64 // marked by a stroke, such as the 99th percentile; 0 = none
	Ours  bool
}

const (
	oursFill  = "#0a84c6"
	otherFill = "#8c959f"
)

// SVG draws it.
func (b Bars) SVG() []byte {
	const left, right, top, step, thick = 250, width - 110, 56, 24, 15
	var values []float64
	for _, bar := range b.Bars {
		values = append(values, bar.Value)
		if bar.Tail > 0 {
			values = append(values, bar.Tail)
		}
	}
	x := newScale(b.Log, left, right, values)
	bottom := float64(top + step*len(b.Bars))
	c := &canvas{height: bottom + 46}
	c.text(12, 24, "start", "title", b.Title)
	for _, v := range x.ticks() {
		c.line("grid", x.at(v), top-6, x.at(v), bottom)
		c.text(x.at(v), bottom+16, "middle", "soft", plain(v))
	}
	c.text((left+right)/2, bottom+36, "middle", "soft", b.Unit)
	for i, bar := range b.Bars {
		y := float64(top + step*i)
		fill, class := otherFill, "label"
		if bar.Ours {
			fill, class = oursFill, "ours"
		}
		c.text(left-10, y+12, "end", class, bar.Label)
		c.rect(fill, left, y, max(x.at(bar.Value)-left, 2), thick)
		end := x.at(bar.Value)
		if bar.Tail > 0 {
			end = max(end, x.at(bar.Tail))
			c.line("mark", x.at(bar.Tail), y-1, x.at(bar.Tail), y+thick+1)
			c.line("mark", min(x.at(bar.Value), x.at(bar.Tail)), y+thick/2, x.at(bar.Tail), y+thick/2)
		}
		c.text(end+7, y+12, "start", class, bar.Text)
	}
	return c.picture(b.Title)
}
