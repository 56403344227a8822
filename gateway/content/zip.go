package content

import (
	"bytes"
	"encoding/binary"
	"strings"
)

const office = "application/vnd.openxmlformats-officedocument."

// inside names the zip based format by the first entries of the archive: a zip
// has no other signature. It walks the local file headers that lie in head, and
// gives up at an entry whose size is only written behind it, unless the names of
// later entries can be seen.
func inside(head []byte) string {
	for off := 0; off+30 <= len(head); {
		h := head[off:]
		if !bytes.HasPrefix(h, []byte("PK\x03\x04")) {
			break
		}
		nameLen := int(binary.LittleEndian.Uint16(h[26:]))
		extraLen := int(binary.LittleEndian.Uint16(h[28:]))
		size := int64(binary.LittleEndian.Uint32(h[18:]))
		if 30+nameLen > len(h) {
			break
		}
		name := string(h[30 : 30+nameLen])
		body := 30 + nameLen + extraLen
		if t := member(name, h, body, size); t != "" {
			return t
		}
		next := int64(body) + size
		if size == 0 { // a folder, an empty file, or a streamed entry: look for the next header
			at := -1
			if body <= len(h) {
				at = bytes.Index(h[body:], []byte("PK\x03\x04"))
			}
			if at < 0 {
				break
			}
			next = int64(body + at)
		}
		if next > int64(len(h)) {
			break
		}
		off += int(next)
	}
	return ""
}

// member names the format that an entry of this name gives away.
func member(name string, h []byte, body int, size int64) string {
	switch {
	case strings.HasPrefix(name, "word/"):
		return office + "wordprocessingml.document"
	case strings.HasPrefix(name, "xl/"):
		return office + "spreadsheetml.sheet"
	case strings.HasPrefix(name, "ppt/"):
		return office + "presentationml.presentation"
	case name == "META-INF/MANIFEST.MF":
		return "application/java-archive"
	case name == "mimetype" && size > 0 && int64(body)+size <= int64(len(h)): // stored, by rule of OpenDocument and EPUB
		return packaged(string(h[body : int64(body)+size]))
	}
	return ""
}
