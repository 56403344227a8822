package main

import (
	"bytes"
	"encoding/binary"
	"io"
)

// orientation reads the EXIF orientation of a JPEG (Exif 2.32, tag 0x0112): 1
// to 8, and 1 when there is none or it makes no sense. Cameras store pictures as
// the sensor lay, and this is all that says which way is up.
func orientation(r io.Reader) int {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || head != [2]byte{0xff, 0xd8} {
		return 1
	}
	for {
		var seg [4]byte
		if _, err := io.ReadFull(r, seg[:]); err != nil || seg[0] != 0xff || seg[1] == 0xda {
			return 1 // the picture itself begins: no EXIF came
		}
		size := int64(binary.BigEndian.Uint16(seg[2:])) - 2
		if size < 0 {
			return 1
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return 1
		}
		if seg[1] == 0xe1 {
			if tiff, ok := bytes.CutPrefix(body, []byte("Exif\x00\x00")); ok {
				return tiffOrientation(tiff)
			}
		}
	}
}

// tiffOrientation looks for the tag in the first directory of a TIFF header.
func tiffOrientation(t []byte) int {
	if len(t) < 8 {
		return 1
	}
	var order binary.ByteOrder
	switch string(t[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	at := int64(order.Uint32(t[4:]))
	if at < 8 || at+2 > int64(len(t)) {
		return 1
	}
	count := int64(order.Uint16(t[at:]))
	for i := range count {
		e := at + 2 + 12*i
		if e+12 > int64(len(t)) {
			return 1
		}
		if order.Uint16(t[e:]) != 0x0112 {
			continue
		}
		if v := int(order.Uint16(t[e+8:])); v >= 1 && v <= 8 {
			return v
		}
		return 1
	}
	return 1
}
