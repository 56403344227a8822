package media

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions/catalog/task"
)

// Info is what a media file holds.
type Info struct {
	Format   string   `json:"format"`             // as ffmpeg names it
	Duration float64  `json:"duration,omitempty"` // seconds; 0 when the file does not say
	BitRate  int64    `json:"bit_rate,omitempty"` // bits per second
	Size     int64    `json:"size,omitempty"`     // bytes
	Streams  []Stream `json:"streams"`
}

// Stream is one stream of a file.
type Stream struct {
	Kind       string  `json:"kind"` // audio, video, subtitle, data
	Codec      string  `json:"codec,omitempty"`
	Width      int     `json:"width,omitempty"`
	Height     int     `json:"height,omitempty"`
	FrameRate  float64 `json:"frame_rate,omitempty"` // per second
	SampleRate int     `json:"sample_rate,omitempty"`
	Channels   int     `json:"channels,omitempty"`
	Duration   float64 `json:"duration,omitempty"`
	BitRate    int64   `json:"bit_rate,omitempty"`
	Picture    bool    `json:"picture,omitempty"` // a cover picture, not a film
}

// Has reports whether there is a stream of that kind, cover pictures apart.
func (i Info) Has(kind string) bool {
	for _, s := range i.Streams {
		if s.Kind == kind && !s.Picture {
			return true
		}
	}
	return false
}

// Probe reads what the file holds. A file that is no media is a Fault.
func Probe(file string) (Info, error) {
	cmd := exec.Command("ffprobe", "-v", "error", "-protocol_whitelist", protocols,
		"-of", "json", "-show_format", "-show_streams", "-i", fileURL(file))
	out, stderr, err := run(cmd)
	if err != nil {
		return Info{}, notMedia(err, stderr)
	}
	info, err := parseProbe(out)
	if err != nil {
		return Info{}, err
	}
	// ffprobe takes any text for subtitles or text art: what has neither sound nor picture is no media.
	if !info.Has("audio") && !info.Has("video") || info.Format == "tty" {
		return Info{}, task.Invalid("NotMedia", "the input holds neither sound nor film")
	}
	return info, nil
}

func parseProbe(out []byte) (Info, error) {
	var p struct {
		Format struct {
			Name     string `json:"format_name"`
			Duration string `json:"duration"`
			BitRate  string `json:"bit_rate"`
			Size     string `json:"size"`
		} `json:"format"`
		Streams []struct {
			Kind        string         `json:"codec_type"`
			Codec       string         `json:"codec_name"`
			Width       int            `json:"width"`
			Height      int            `json:"height"`
			FrameRate   string         `json:"avg_frame_rate"`
			SampleRate  string         `json:"sample_rate"`
			Channels    int            `json:"channels"`
			Duration    string         `json:"duration"`
			BitRate     string         `json:"bit_rate"`
			Disposition map[string]int `json:"disposition"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &p); err != nil {
		return Info{}, fmt.Errorf("read ffprobe's answer: %w", err)
	}
	info := Info{Format: p.Format.Name, Duration: number(p.Format.Duration), BitRate: int64(number(p.Format.BitRate)), Size: int64(number(p.Format.Size))}
	for _, s := range p.Streams {
		st := Stream{
			Kind: s.Kind, Codec: s.Codec, Width: s.Width, Height: s.Height, Channels: s.Channels,
			SampleRate: int(number(s.SampleRate)), Duration: number(s.Duration), BitRate: int64(number(s.BitRate)),
			FrameRate: ratio(s.FrameRate), Picture: s.Disposition["attached_pic"] == 1,
		}
		info.Streams = append(info.Streams, st)
	}
	return info, nil
}

// number is 0 for what ffprobe does not know (absent or N/A).
func number(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v != v || v < 0 {
		return 0
	}
	return v
}

// ratio reads a fraction such as 30000/1001.
func ratio(s string) float64 {
	a, b, ok := strings.Cut(s, "/")
	if d := number(b); ok && d > 0 {
		return number(a) / d
	}
	return number(a)
}
