package content_test

import (
	"archive/zip"
	"bytes"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

var (
	png  = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
	wav  = "RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
	webm = "\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04"
	mp4  = "\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
	ogg  = "OggS\x00\x02" + strings.Repeat("\x00", 20) + "\x01\x13unknown"
	ole  = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 600)
	blob = "\x00\x01\x02\x03\xfe\xff\x80\x90 nothing we know \x00\x00\x07"
)

func archive(t *testing.T, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.CreateHeader(&zip.FileHeader{Name: n, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("<xml/>")); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDetect(t *testing.T) {
	const office = "application/vnd.openxmlformats-officedocument."
	docx := archive(t, "[Content_Types].xml", "_rels/.rels", "word/document.xml")
	for _, c := range []struct {
		name, head, file, declared string
		want                       string
		class                      functions.ContentClass
	}{
		{"the bytes win over a lying declaration", png, "report.pdf", "application/pdf", "image/png", functions.Image},
		{"text that claims to be audio", "hello, this is only text\n", "x.mp3", "audio/mpeg", "text/plain", functions.Document},
		{"random bytes that claim to be an image", blob, "x.png", "image/png", content.Unknown, functions.Data},
		{"random bytes that claim to be text", blob, "x.txt", "text/plain", content.Unknown, functions.Data},
		{"unknown bytes declared octet-stream are no document", blob, "", "application/octet-stream", content.Unknown, functions.Data},
		{"a format without a signature is believed", blob, "x.mp3", "", "audio/mpeg", functions.Audio},
		{"wav", wav, "speech.wav", "application/octet-stream", "audio/wav", functions.Audio},
		{"no bytes", "", "film.mp4", "video/mp4", content.Empty, functions.Data},

		{"webm by name", webm, "clip.webm", "", "video/webm", functions.Video},
		{"webm declared as sound", webm, "audio.webm", "audio/webm;codecs=opus", "audio/webm", functions.Audio},
		{"weba", webm, "voice.weba", "video/webm", "audio/webm", functions.Audio},
		{"mp4", mp4, "film.mp4", "", "video/mp4", functions.Video},
		{"m4a by extension against the declaration", mp4, "song.m4a", "video/mp4", "audio/mp4", functions.Audio},
		{"mp4 declared as sound", mp4, "x", "audio/mp4", "audio/mp4", functions.Audio},
		{"ogg by name", ogg, "x.ogg", "", "audio/ogg", functions.Audio},
		{"ogv", ogg, "x.ogv", "", "video/ogg", functions.Video},
		{"ogg declared video", ogg, "x.ogg", "video/ogg", "video/ogg", functions.Video},

		{"docx by its entries", docx, "x.zip", "application/zip", office + "wordprocessingml.document", functions.Document},
		{"xlsx by its entries", archive(t, "[Content_Types].xml", "xl/workbook.xml"), "", "", office + "spreadsheetml.sheet", functions.Document},
		{"pptx by its entries", archive(t, "ppt/presentation.xml"), "", "", office + "presentationml.presentation", functions.Document},
		{"a zip is a zip", archive(t, "a.txt", "b/c.txt"), "x.zip", "", "application/zip", functions.Data},
		{"a zip named docx", archive(t, "[Content_Types].xml"), "x.docx", "", office + "wordprocessingml.document", functions.Document},
		{"a zip declared as an image", archive(t, "a.txt"), "x.png", "image/png", "application/zip", functions.Data},
		{"doc by name", ole, "x.doc", "", "application/msword", functions.Document},

		{"json", `{"a":1}`, "", "application/json", "application/json", functions.Data},
		{"markdown by name", "# Title\n\nsome text\n", "x.md", "", "text/markdown", functions.Document},
		{"form type of curl says nothing", "# Title\n\nsome text\n", "", "application/x-www-form-urlencoded", "text/plain", functions.Document},
		{"hostile declaration", "plain words\n", "x", "text/\x00;;;\r\n", "text/plain", functions.Document},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := content.Detect([]byte(c.head), c.file, c.declared)
			if got.ContentType != c.want || functions.ClassOf(got.ContentType) != c.class {
				t.Errorf("Detect(%q, %q) = %+v (%s), want %s (%s)", c.file, c.declared, got, functions.ClassOf(got.ContentType), c.want, c.class)
			}
		})
	}
}

func TestBytesNotKnownYet(t *testing.T) {
	for _, c := range []struct{ file, declared, want string }{
		{"a.wav", "", "audio/wav"},
		{"a.wav", "video/mp4", "video/mp4"},
		{"a", "application/octet-stream", content.Unknown},
	} {
		if got := content.Detect(nil, c.file, c.declared); got.ContentType != c.want || got.Sniffed != "" {
			t.Errorf("Detect(nil, %q, %q) = %+v, want %s and nothing sniffed", c.file, c.declared, got, c.want)
		}
	}
}

func TestRouteKeepsItsGrounds(t *testing.T) {
	r := content.Detect([]byte(png), "Report.PDF", "application/pdf; x=y").Route(functions.Auto)
	want := functions.Route{ContentType: "image/png", Class: functions.Image, Declared: "application/pdf", Sniffed: "image/png", Extension: ".pdf",
		Policy: functions.Auto, Device: functions.GPU, Reason: r.Reason}
	if r != want {
		t.Errorf("route %+v, want %+v", r, want)
	}
	if !strings.Contains(r.Reason, "declared as application/pdf") {
		t.Errorf("reason %q does not name the lie", r.Reason)
	}
}

func FuzzDetect(f *testing.F) {
	for _, s := range []string{png, wav, webm, mp4, ogg, ole, blob, "", "PK\x03\x04", "{}"} {
		f.Add([]byte(s), "a.webm", "audio/webm")
	}
	f.Add([]byte(strings.Repeat("PK\x03\x04", 50)), "x.docx", "application/zip")
	f.Fuzz(func(t *testing.T, head []byte, name, declared string) {
		got := content.Detect(head, name, declared)
		if !strings.Contains(got.ContentType, "/") || strings.ContainsAny(got.ContentType, "\r\n\x00 ") {
			t.Errorf("Detect(%q, %q, %q) = %q, which is no media type", head, name, declared, got.ContentType)
		}
		if again := content.Detect(head, name, declared); again != got {
			t.Errorf("twice: %+v, then %+v", got, again)
		}
		if r := got.Route(functions.Auto); r.Device == functions.GPU && !r.Class.GainsFromGPU() {
			t.Errorf("auto sends %s to a GPU", r.Class)
		}
	})
}
