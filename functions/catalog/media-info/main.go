// Command media-info says what a sound or a film is: format, length, streams,
// and how loud it is.
package main

import (
	"github.com/spillway/spillway/functions/catalog/media"
	"github.com/spillway/spillway/functions/catalog/task"
)

func main() { task.Main(run) }

type options struct {
	Loudness *bool `json:"loudness"` // measure it, which decodes the whole sound; absent = yes
}

type result struct {
	media.Info
	Loudness *media.Loudness `json:"loudness,omitempty"`
	Device   task.Device     `json:"device"`
}

func run(t *task.Task) (any, error) {
	var o options
	if err := t.Args(&o); err != nil {
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
	r := result{Info: info, Device: t.Device}
	if info.Has("audio") && (o.Loudness == nil || *o.Loudness) {
		t.Progress(0.3, "loudness")
		l, err := media.MeasureLoudness(in.Path)
		if err != nil {
			return nil, err
		}
		r.Loudness = &l
	}
	return r, nil
}
