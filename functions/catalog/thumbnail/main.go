// Command thumbnail makes a small picture of a picture.
package main

import (
	"bufio"
	"errors"
	"image"
	"io"
	"os"

	_ "image/gif"  // decodes
	_ "image/jpeg" // decodes
	_ "image/png"  // decodes

	_ "golang.org/x/image/bmp"  // decodes
	_ "golang.org/x/image/tiff" // decodes
	_ "golang.org/x/image/webp" // decodes

	"github.com/spillway/spillway/functions/catalog/task"
)

// maxPixels refuses pictures that would not fit into the function's memory: a
// decoded pixel takes up to 8 bytes (16-bit PNG), and a few kilobytes of file
// can claim any size. 50 million pixels is a 50-megapixel camera.
const maxPixels = 50_000_000

func main() { task.Main(run) }

type options struct {
	Size    int    `json:"size"`    // longest side in pixels, 1 to 1024; 0 = 320
	Format  string `json:"format"`  // jpeg or png; empty = png for PNG and GIF, else jpeg
	Quality int    `json:"quality"` // of JPEG, 1 to 100; 0 = 85
}

type result struct {
	File     string      `json:"file"`
	Width    int         `json:"width"`
	Height   int         `json:"height"`
	Format   string      `json:"format"`
	Original original    `json:"original"`
	Device   task.Device `json:"device"`
}

type original struct {
	Width       int    `json:"width"`
	Height      int    `json:"height"`
	Format      string `json:"format"`
	Orientation int    `json:"orientation"` // as EXIF numbers it; 1 = upright
}

func run(t *task.Task) (any, error) {
	o, err := optionsOf(t)
	if err != nil {
		return nil, err
	}
	in, err := t.Input()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(in.Path)
	if err != nil {
		return nil, task.NoInput("NoInput", "the input cannot be opened: %v", err)
	}
	defer f.Close()
	src, org, err := decode(f)
	if err != nil {
		return nil, err
	}
	t.Progress(0.5, "scale")
	small := upright(scale(src, o.Size), org.Orientation)
	if o.Format == "" {
		o.Format = "jpeg"
		if org.Format == "png" || org.Format == "gif" {
			o.Format = "png" // may have transparent parts, which JPEG lacks
		}
	}
	name := "thumbnail.jpg"
	if o.Format == "png" {
		name = "thumbnail.png"
	}
	if err := encode(t.OutPath(name), small, o); err != nil {
		return nil, err
	}
	b := small.Bounds()
	return result{File: name, Width: b.Dx(), Height: b.Dy(), Format: o.Format, Original: org, Device: t.Device}, nil
}

func optionsOf(t *task.Task) (options, error) {
	var o options
	if err := t.Args(&o); err != nil {
		return o, err
	}
	if o.Size == 0 {
		o.Size = 320
	}
	if o.Quality == 0 {
		o.Quality = 85
	}
	switch {
	case o.Size < 1 || o.Size > 1024:
		return o, task.Usage("BadSize", "size %d is out of range 1 to 1024", o.Size)
	case o.Quality < 1 || o.Quality > 100:
		return o, task.Usage("BadQuality", "quality %d is out of range 1 to 100", o.Quality)
	case o.Format != "" && o.Format != "jpeg" && o.Format != "png":
		return o, task.Usage("BadFormat", "format %q is not jpeg or png", o.Format)
	}
	return o, nil
}

// decode looks at the claimed size before it decodes a pixel.
func decode(f io.ReadSeeker) (image.Image, original, error) {
	var org original
	cfg, format, err := image.DecodeConfig(bufio.NewReader(f))
	if err != nil {
		if errors.Is(err, image.ErrFormat) {
			return nil, org, task.Invalid("NotAnImage", "the input is not a JPEG, PNG, GIF, WebP, BMP or TIFF picture")
		}
		return nil, org, task.Invalid("BadImage", "the picture's header cannot be read: %v", err)
	}
	if cfg.Width <= 0 || cfg.Height <= 0 {
		return nil, org, task.Invalid("BadImage", "the picture has no pixels")
	}
	if cfg.Width > maxPixels/cfg.Height {
		return nil, org, task.Invalid("TooManyPixels", "the picture claims %d x %d pixels, over the limit of %d in all", cfg.Width, cfg.Height, maxPixels)
	}
	org = original{Width: cfg.Width, Height: cfg.Height, Format: format, Orientation: 1}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, org, err
	}
	if format == "jpeg" {
		org.Orientation = orientation(bufio.NewReader(f))
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, org, err
		}
	}
	img, _, err := image.Decode(bufio.NewReader(f))
	if err != nil {
		return nil, org, task.Invalid("BadImage", "the picture is damaged: %v", err)
	}
	return img, org, nil
}
