// Command waveform draws a sound and says how long and how loud it is. For a
// film it can also make a small preview.
package main

import (
	"github.com/spillway/spillway/functions/catalog/media"
	"github.com/spillway/spillway/functions/catalog/task"
)

func main() { task.Main(run) }

type options struct {
	Width   int  `json:"width"`   // of the drawing, pixels, 16 to 4096; 0 = 1200
	Height  int  `json:"height"`  // 16 to 2048; 0 = 240
	Preview bool `json:"preview"` // also make preview.mp4 when there is film
}

type result struct {
	Duration float64         `json:"duration"` // seconds
	Format   string          `json:"format"`
	Streams  []media.Stream  `json:"streams"`
	Loudness *media.Loudness `json:"loudness,omitempty"` // absent when there is no sound
	Waveform string          `json:"waveform,omitempty"` // file name; absent when there is no sound
	Preview  string          `json:"preview,omitempty"`
	Encoder  media.Encoder   `json:"encoder,omitempty"` // what made the preview
	Device   task.Device     `json:"device"`
}

// The preview is this high, in pixels, and at most this long, in seconds.
const (
	previewHeight  = 240
	previewSeconds = 30
)

func run(t *task.Task) (any, error) {
	o, err := optionsOf(t)
	if err != nil {
		return nil, err
	}
	in, err := t.Input()
	if err != nil {
		return nil, err
	}
	if err := media.RequireDevice(t.Device); err != nil {
		return nil, err
	}
	info, err := media.Probe(in.Path)
	if err != nil {
		return nil, err
	}
	r := result{Duration: info.Duration, Format: info.Format, Streams: info.Streams, Device: t.Device}
	if info.Has("audio") {
		t.Progress(0.1, "waveform")
		if err := media.Waveform(in.Path, t.OutPath("waveform.png"), media.Size{Width: o.Width, Height: o.Height}); err != nil {
			return nil, err
		}
		r.Waveform = "waveform.png"
		t.Progress(0.4, "loudness")
		l, err := media.MeasureLoudness(in.Path)
		if err != nil {
			return nil, err
		}
		r.Loudness = &l
	}
	if o.Preview && info.Has("video") {
		t.Progress(0.6, "preview")
		r.Encoder, err = media.Preview(in.Path, t.OutPath("preview.mp4"), t.Device, previewHeight, previewSeconds)
		if err != nil {
			return nil, err
		}
		r.Preview = "preview.mp4"
	}
	return r, nil
}

func optionsOf(t *task.Task) (options, error) {
	var o options
	if err := t.Args(&o); err != nil {
		return o, err
	}
	if o.Width == 0 {
		o.Width = 1200
	}
	if o.Height == 0 {
		o.Height = 240
	}
	if o.Width < 16 || o.Width > 4096 || o.Height < 16 || o.Height > 2048 {
		return o, task.Usage("BadSize", "a drawing of %d x %d pixels is out of range 16 x 16 to 4096 x 2048", o.Width, o.Height)
	}
	return o, nil
}
