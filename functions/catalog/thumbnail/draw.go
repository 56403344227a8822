package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"

	"golang.org/x/image/draw"
)

// scale shrinks img so that its longest side is at most longest. It never
// enlarges. A picture more than twice too large is first averaged down to between
// two and four times the size, because the good filter keeps 32 bytes for each
// column of the result and row of the source.
func scale(img image.Image, longest int) *image.RGBA {
	b := img.Bounds()
	w, h := fit(b.Dx(), b.Dy(), longest)
	if k := min(b.Dx()/(2*w), b.Dy()/(2*h)); k > 1 {
		img = shrink(img, k)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.CatmullRom.Scale(out, out.Bounds(), img, img.Bounds(), draw.Src, nil)
	return out
}

// shrink averages blocks of k x k pixels. Rows and columns that do not fill a
// block are left out.
func shrink(img image.Image, k int) *image.RGBA {
	b := img.Bounds()
	w, h := b.Dx()/k, b.Dy()/k
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	strip := image.NewRGBA(image.Rect(0, 0, w*k, k)) // one row of blocks, whatever img's own form
	sums := make([]int, 4*w)
	for y := range h {
		draw.Draw(strip, strip.Bounds(), img, image.Pt(b.Min.X, b.Min.Y+y*k), draw.Src)
		clear(sums)
		for row := range k {
			px := strip.Pix[row*strip.Stride:]
			for i := range w * k {
				for c := range 4 {
					sums[i/k*4+c] += int(px[4*i+c])
				}
			}
		}
		for i, sum := range sums {
			out.Pix[y*out.Stride+i] = uint8((sum + k*k/2) / (k * k))
		}
	}
	return out
}

// fit is the size of w x h with its longest side cut to longest, at least one
// pixel each way.
func fit(w, h, longest int) (int, int) {
	if w <= longest && h <= longest {
		return w, h
	}
	if w >= h {
		return longest, max(1, (h*longest+w/2)/w)
	}
	return max(1, (w*longest+h/2)/h), longest
}

// upright turns img as its EXIF orientation says: 1 to 8, where 5 to 8 swap the
// sides. Any other number leaves it alone.
func upright(img *image.RGBA, orientation int) *image.RGBA {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	var from func(x, y int) (int, int)
	switch orientation {
	case 2:
		from = func(x, y int) (int, int) { return w - 1 - x, y }
	case 3:
		from = func(x, y int) (int, int) { return w - 1 - x, h - 1 - y }
	case 4:
		from = func(x, y int) (int, int) { return x, h - 1 - y }
	case 5:
		from = func(x, y int) (int, int) { return y, x }
	case 6:
		from = func(x, y int) (int, int) { return y, h - 1 - x }
	case 7:
		from = func(x, y int) (int, int) { return w - 1 - y, h - 1 - x }
	case 8:
		from = func(x, y int) (int, int) { return w - 1 - y, x }
	default:
		return img
	}
	ow, oh := w, h
	if orientation >= 5 {
		ow, oh = h, w
	}
	out := image.NewRGBA(image.Rect(0, 0, ow, oh))
	for y := range oh {
		for x := range ow {
			sx, sy := from(x, y)
			out.SetRGBA(x, y, img.RGBAAt(sx, sy))
		}
	}
	return out
}

// encode writes img. JPEG has no transparency: what is transparent turns white.
func encode(file string, img *image.RGBA, o options) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("create the thumbnail: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if o.Format == "png" {
		err = png.Encode(w, img)
	} else {
		flat := image.NewRGBA(img.Bounds())
		draw.Draw(flat, flat.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(flat, flat.Bounds(), img, img.Bounds().Min, draw.Over)
		err = jpeg.Encode(w, flat, &jpeg.Options{Quality: o.Quality})
	}
	if err != nil {
		return fmt.Errorf("encode the thumbnail: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the thumbnail: %w", err)
	}
	return f.Close()
}
