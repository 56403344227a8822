// Package content says what a file is, from three witnesses that often disagree:
// its first bytes, its name, and what the client declared.
//
// The bytes win, because the others can be wrong or lie. The name and the
// declaration decide only what bytes cannot: whether a webm, mp4 or ogg
// container carries sound alone, which of the text formats a text is, and what
// bytes of no known format are. A declared type whose format has a firm
// signature is not believed when that signature is missing.
package content

import (
	"mime"
	"path"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"github.com/spillway/spillway/functions"
)

// HeadSize is how many of the first bytes Detect looks at. Every signature that
// it knows lies within them.
const HeadSize = 3072

// Unknown is the type of bytes that nothing says anything about, Empty the type
// of a file without any. Both are routed as data, never as documents.
const (
	Unknown = "application/octet-stream"
	Empty   = "application/x-empty"
)

// Type is what a file was found to be, with what each witness said.
type Type struct {
	ContentType string // believed
	Declared    string // by the client, without parameters; may be empty
	Sniffed     string // from the bytes; empty when there was none to look at
	Extension   string // of the name, lower case, with its dot; may be empty
}

// Detect decides what a file is from its first bytes, its name and the declared
// media type; each may be missing. A nil head means that the bytes are not known
// yet, an empty one that the file is empty.
func Detect(head []byte, fileName, declared string) Type {
	t := Type{Declared: mediaType(declared), Extension: extension(fileName)}
	if head == nil {
		t.ContentType = first(hint(t.Declared), extensions[t.Extension], Unknown)
		return t
	}
	if len(head) == 0 {
		t.ContentType, t.Sniffed = Empty, Empty
		return t
	}
	t.Sniffed = sniff(head)
	t.ContentType = t.believe()
	return t
}

// Route starts the device decision under a policy and records its grounds.
func (t Type) Route(p functions.Policy) functions.Route {
	r := functions.Route{
		ContentType: t.ContentType, Declared: t.Declared, Sniffed: t.Sniffed, Extension: t.Extension, Policy: p,
	}.Decide()
	if d := hint(t.Declared); d != "" && t.ContentType != "" && functions.ClassOf(d) != functions.ClassOf(t.ContentType) {
		r.Reason += "; declared as " + d + ", but it is not"
	}
	return r
}

// JSON is the type of a call whose body is its event.
func JSON() Type {
	return Type{ContentType: "application/json", Declared: "application/json", Sniffed: "application/json"}
}

func (t Type) believe() string {
	declared, named := hint(t.Declared), extensions[t.Extension]
	switch family := familyOf(t.Sniffed); {
	case family != "":
		return carries(family, t.Sniffed, t.Extension, declared)
	case t.Sniffed == Unknown:
		return first(unsigned(declared), unsigned(named), Unknown)
	case t.Sniffed == "text/plain":
		return first(textual(declared), textual(named), t.Sniffed)
	case t.Sniffed == "application/zip":
		return first(packaged(declared), packaged(named), t.Sniffed)
	case t.Sniffed == "application/x-ole-storage":
		return first(legacy(declared), legacy(named), t.Sniffed)
	}
	return t.Sniffed
}

// sniff reads the signature. It returns no parameters, so that no charset guess
// gets into a route.
func sniff(head []byte) string {
	if len(head) > HeadSize {
		head = head[:HeadSize]
	}
	t := mediaType(mimetype.Detect(head).String())
	if t == "application/zip" {
		return first(inside(head), t)
	}
	return first(t, Unknown)
}

// hint drops declarations that say nothing: the types that HTTP clients send
// when they were told none.
func hint(declared string) string {
	switch declared {
	case Unknown, "application/x-www-form-urlencoded", "binary/octet-stream", "application/binary", "multipart/form-data", "*/*":
		return ""
	}
	return declared
}

// unsigned keeps a type that bytes without a signature may still be.
func unsigned(t string) string {
	if strings.HasPrefix(t, "text/") || t == "application/json" {
		return "" // no text holds such bytes
	}
	if loose[t] || mimetype.Lookup(t) == nil {
		return t
	}
	return ""
}

// loose types have a signature that real files often lack: streams cut in the
// middle of a frame, tags in front.
var loose = map[string]bool{
	"audio/mpeg": true, "audio/aac": true, "audio/ac3": true, "video/mpeg": true, "video/mp2t": true, "image/x-tga": true,
}

// textual keeps a type whose content is text.
func textual(t string) string {
	switch {
	case strings.HasPrefix(t, "text/"), strings.HasSuffix(t, "+json"), strings.HasSuffix(t, "+xml") && !strings.HasPrefix(t, "image/"):
		return t
	}
	switch t {
	case "application/json", "application/xml", "application/javascript", "application/x-ndjson", "application/yaml", "application/toml", "application/x-sh":
		return t
	}
	return ""
}

// packaged keeps a type that is a zip archive inside.
func packaged(t string) string {
	if strings.HasPrefix(t, "application/vnd.openxmlformats-officedocument.") ||
		strings.HasPrefix(t, "application/vnd.oasis.opendocument.") ||
		t == "application/epub+zip" || t == "application/java-archive" {
		return t
	}
	return ""
}

// legacy keeps a type that is an OLE container inside.
func legacy(t string) string {
	switch t {
	case "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint":
		return t
	}
	return ""
}

// mediaType strips the parameters of a media type and refuses what is not one.
func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		t, _, _ = strings.Cut(s, ";")
		t = strings.ToLower(strings.TrimSpace(t))
	}
	major, minor, ok := strings.Cut(t, "/")
	if !ok || !token(major) || !token(minor) || len(t) > 127 { // RFC 6838 4.2: 127 each; nobody needs more than half
		return ""
	}
	return t
}

// token reports whether s is made of the characters of RFC 6838 4.2 alone.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$&-^_.+*", r))
	})
}

func extension(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if len(ext) < 2 || len(ext) > 12 || ext == name {
		return ""
	}
	if strings.ContainsFunc(ext[1:], func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') }) {
		return ""
	}
	return ext
}

func first(types ...string) string {
	for _, t := range types {
		if t != "" {
			return t
		}
	}
	return ""
}
