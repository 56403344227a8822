package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions/catalog/task"
)

// picture is red at its top left corner and blue elsewhere.
func picture(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{0, 0, 255, 255}
			if x < w/2 && y < h/2 {
				c = color.RGBA{255, 0, 0, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// attempt runs the function over one input file.
func attempt(t *testing.T, name string, body []byte, event string) (result, string, error) {
	t.Helper()
	dir := t.TempDir()
	in := filepath.Join(dir, name)
	if err := os.WriteFile(in, body, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := run(&task.Task{Event: json.RawMessage(event), Inputs: []task.Input{{Name: name, Path: in}}, Out: dir, Device: task.CPU})
	if err != nil {
		return result{}, dir, err
	}
	return got.(result), dir, nil
}

func encoded(t *testing.T, f func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t *testing.T, img image.Image) []byte {
	return encoded(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) })
}

func read(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestThumbnailOfEachFormat(t *testing.T) {
	img := picture(640, 480)
	for format, body := range map[string][]byte{
		"jpeg": asJPEG(t, img),
		"png":  encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, img) }),
		"gif":  encoded(t, func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) }),
		"bmp":  encoded(t, func(b *bytes.Buffer) error { return bmp.Encode(b, img) }),
		"tiff": encoded(t, func(b *bytes.Buffer) error { return tiff.Encode(b, img, nil) }),
		"webp": tinyWebP,
	} {
		t.Run(format, func(t *testing.T) {
			got, dir, err := attempt(t, "picture", body, `{"size":64}`)
			if err != nil {
				t.Fatal(err)
			}
			if got.Original.Format != format {
				t.Errorf("format %s", got.Original.Format)
			}
			small := read(t, filepath.Join(dir, got.File))
			if small.Bounds().Dx() != got.Width || small.Bounds().Dy() != got.Height || got.Width > 64 {
				t.Errorf("file is %v, result says %d x %d", small.Bounds(), got.Width, got.Height)
			}
			if format != "webp" && (got.Width != 64 || got.Height != 48 || !red(small.At(8, 8)) || red(small.At(50, 40))) {
				t.Errorf("%d x %d, corner %v, middle %v", got.Width, got.Height, small.At(8, 8), small.At(50, 40))
			}
		})
	}
}

// tinyWebP is one transparent pixel, the smallest lossless WebP.
var tinyWebP = []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00")

func red(c color.Color) bool {
	r, _, b, _ := c.RGBA()
	return r > 2*b
}

// withOrientation puts an EXIF segment after the start of a JPEG.
func withOrientation(jpg []byte, order binary.AppendByteOrder, orientation int) []byte {
	head := "II*\x00"
	if order.String() == "BigEndian" {
		head = "MM\x00*"
	}
	exif := []byte("Exif\x00\x00" + head)
	exif = order.AppendUint32(exif, 8)
	exif = order.AppendUint16(exif, 2)
	for _, e := range [][2]int{{0x010f, 0}, {0x0112, orientation}} {
		exif = order.AppendUint16(exif, uint16(e[0]))
		exif = order.AppendUint16(exif, 3)
		exif = order.AppendUint32(exif, 1)
		exif = order.AppendUint16(exif, uint16(e[1]))
		exif = order.AppendUint16(exif, 0)
	}
	exif = order.AppendUint32(exif, 0)
	seg := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(exif)+2))
	return append(append(append([]byte{0xff, 0xd8}, seg...), exif...), jpg[2:]...)
}

func TestOrientationTurnsThePictureUpright(t *testing.T) {
	plain := asJPEG(t, picture(320, 160))
	// Where the red corner of the stored picture belongs (EXIF 2.32, figure 36).
	for orientation, corner := range map[int]image.Point{
		1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {1, 0}, 7: {1, 1}, 8: {0, 1}, 0: {0, 0}, 9: {0, 0},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(fmt.Sprint(orientation, order), func(t *testing.T) {
				got, dir, err := attempt(t, "p.jpg", withOrientation(plain, order, orientation), `{"size":80}`)
				if err != nil {
					t.Fatal(err)
				}
				w, h := 80, 40
				if orientation >= 5 && orientation <= 8 {
					w, h = h, w
				}
				if got.Width != w || got.Height != h {
					t.Fatalf("%d x %d, want %d x %d", got.Width, got.Height, w, h)
				}
				small := read(t, filepath.Join(dir, got.File))
				for _, p := range []image.Point{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
					if at := small.At(8+p.X*(w-16), 8+p.Y*(h-16)); red(at) != (p == corner) {
						t.Errorf("corner %v is %v", p, at)
					}
				}
			})
		}
	}
}

// bomb is a PNG of some dozen bytes that claims any size.
func bomb(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	ihdr := []byte("IHDR")
	ihdr = binary.BigEndian.AppendUint32(ihdr, w)
	ihdr = binary.BigEndian.AppendUint32(ihdr, h)
	ihdr = append(ihdr, 8, 6, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, 13)
	b = append(b, ihdr...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(ihdr))
}

func TestThumbnailRefuses(t *testing.T) {
	good := asJPEG(t, picture(64, 64))
	for _, tc := range []struct {
		name, event string
		body        []byte
		kind        string
		code        task.Code
	}{
		{"a bomb", `{}`, bomb(100_000, 100_000), "TooManyPixels", task.ExitData},
		{"a bomb that is one line", `{}`, bomb(2_000_000_000, 1), "TooManyPixels", task.ExitData},
		{"what is no picture", `{}`, []byte("hello"), "NotAnImage", task.ExitData},
		{"an empty file", `{}`, nil, "NotAnImage", task.ExitData},
		{"half a picture", `{}`, good[:len(good)/2], "BadImage", task.ExitData},
		{"a size of nothing", `{"size":-1}`, good, "BadSize", task.ExitUsage},
		{"a huge size", `{"size":5000}`, good, "BadSize", task.ExitUsage},
		{"a format it cannot write", `{"format":"webp"}`, good, "BadFormat", task.ExitUsage},
		{"a quality over 100", `{"quality":101}`, good, "BadQuality", task.ExitUsage},
		{"options that are text", `"x"`, good, "BadEvent", task.ExitUsage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := attempt(t, "p", tc.body, tc.event)
			if f, ok := errors.AsType[*task.Fault](err); !ok || f.Type != tc.kind || f.Code != tc.code {
				t.Errorf("got %v, want %s and exit %d", err, tc.kind, tc.code)
			}
		})
	}
	if _, err := run(&task.Task{}); err == nil {
		t.Error("no input was no error")
	}
}

func TestFitKeepsShapeAndNeverEnlarges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 20000).Draw(t, "w"), rapid.IntRange(1, 20000).Draw(t, "h")
		longest := rapid.IntRange(1, 1024).Draw(t, "longest")
		gw, gh := fit(w, h, longest)
		if gw < 1 || gh < 1 || gw > w || gh > h || max(gw, gh) > longest {
			t.Fatalf("fit(%d, %d, %d) = %d, %d", w, h, longest, gw, gh)
		}
		if max(w, h) > longest && max(gw, gh) != longest {
			t.Fatalf("fit(%d, %d, %d) = %d, %d: longest side is not %d", w, h, longest, gw, gh, longest)
		}
	})
}

func TestScaleKeepsOneColourWhateverTheFactor(t *testing.T) {
	c := color.RGBA{200, 100, 50, 255}
	for _, size := range []image.Point{{1, 1}, {7, 3}, {640, 2}, {999, 501}, {2000, 1999}} {
		img := image.NewRGBA(image.Rect(0, 0, size.X, size.Y))
		for i := range img.Pix {
			img.Pix[i] = []uint8{c.R, c.G, c.B, c.A}[i%4]
		}
		small := scale(img, 64)
		for _, p := range []image.Point{{0, 0}, small.Bounds().Max.Sub(image.Pt(1, 1))} {
			if got := small.RGBAAt(p.X, p.Y); got != c {
				t.Errorf("%v: pixel %v is %v, want %v", size, p, got, c)
			}
		}
	}
}

func FuzzOrientation(f *testing.F) {
	f.Add(withOrientation([]byte{0xff, 0xd8, 0xff, 0xda}, binary.LittleEndian, 6))
	f.Add(withOrientation([]byte{0xff, 0xd8, 0xff, 0xda}, binary.BigEndian, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o := orientation(bytes.NewReader(b)); o < 1 || o > 8 {
			t.Errorf("orientation %d", o)
		}
	})
}
