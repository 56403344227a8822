package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/text/encoding/charmap"

	"github.com/spillway/spillway/functions/catalog/task"
)

// attempt runs the function over one input and returns the text that it left.
func attempt(t *testing.T, name string, body []byte) (result, string, error) {
	t.Helper()
	return attemptWithin(t, limits{text: maxText, unpacked: maxUnpacked}, name, body)
}

func attemptWithin(t *testing.T, most limits, name string, body []byte) (result, string, error) {
	t.Helper()
	dir := t.TempDir()
	in := filepath.Join(dir, name)
	if err := os.WriteFile(in, body, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := run(&task.Task{Inputs: []task.Input{{Name: name, Path: in}}, Out: dir}, most)
	if err != nil {
		return result{}, "", err
	}
	text, err := os.ReadFile(filepath.Join(dir, "text.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return got.(result), string(text), nil
}

// zipped makes a zip of name, content pairs.
func zipped(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pdf is a PDF of one line on each page, written by hand.
func pdf(lines ...string) []byte {
	var b bytes.Buffer
	var at []int
	object := func(format string, args ...any) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(at), fmt.Sprintf(format, args...))
	}
	b.WriteString("%PDF-1.4\n")
	object("<< /Type /Catalog /Pages 2 0 R >>")
	var kids strings.Builder
	for i := range lines {
		fmt.Fprintf(&kids, "%d 0 R ", 4+2*i)
	}
	object("<< /Type /Pages /Kids [%s] /Count %d >>", kids.String(), len(lines))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
	for i, l := range lines {
		body := fmt.Sprintf("BT /F1 12 Tf 72 700 Td (%s) Tj ET", l)
		object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >> >>", 5+2*i)
		object("<< /Length %d >>\nstream\n%s\nendstream", len(body), body)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, start)
	return b.Bytes()
}

func utf16le(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

func TestTextOfEachKind(t *testing.T) {
	latin1, err := charmap.Windows1252.NewEncoder().String("Müller zahlt 5 € für Käse\n")
	if err != nil {
		t.Fatal(err)
	}
	const w = `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>`
	for _, tc := range []struct {
		name, file string
		body       []byte
		kind       kind
		text       string
		pages      int
	}{
		{"plain text", "a.txt", []byte("zwei Wörter\nZeile\n"), kindText, "zwei Wörter\nZeile\n", 0},
		{"text with a byte order mark", "a.txt", []byte("\ufeffhello"), kindText, "hello", 0},
		{"text in UTF-16", "a.txt", utf16le("hello € 𝄞\n"), kindText, "hello € 𝄞\n", 0},
		{"text in Windows-1252", "a.csv", []byte(latin1), kindText, "Müller zahlt 5 € für Käse\n", 0},
		{"HTML", "page", []byte("<!doctype html><title>T &amp; U</title><style>p{}</style><p>one  <b>two</b>three\n four</p><script>if (a<b) x()</script><ul><li>x<li>y</ul>"),
			kindHTML, "T & U\none twothree four\nx\ny\n", 0},
		{"HTML that declares its encoding", "p.html", append([]byte(`<html><head><meta charset="windows-1252"></head><body>`), latin1...), kindHTML, "Müller zahlt 5 € für Käse\n", 0},
		{"a table in HTML", "t.html", []byte("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>"), kindHTML, "a b\nc\n", 0},
		{"docx", "a.docx", zipped(t, "[Content_Types].xml", "<Types/>", "word/document.xml",
			w+`<w:p><w:r><w:t>Hello </w:t></w:r><w:r><w:t>w&#246;rld</w:t><w:tab/><w:t>x</w:t></w:r></w:p><w:p><w:r><w:instrText>PAGE</w:instrText><w:t>second</w:t></w:r></w:p></w:body></w:document>`,
			"word/footnotes.xml", `<w:footnotes><w:footnote><w:p><w:r><w:t>note</w:t></w:r></w:p></w:footnote></w:footnotes>`),
			kindDocx, "Hello wörld\tx\nsecond\nnote\n", 0},
		{"pptx, slides by number", "a.pptx", zipped(t, "ppt/presentation.xml", "<p/>",
			"ppt/slides/slide10.xml", `<p:sld><a:p><a:r><a:t>ten</a:t></a:r></a:p></p:sld>`,
			"ppt/slides/slide2.xml", `<p:sld><a:p><a:r><a:t>two</a:t></a:r></a:p></p:sld>`,
			"ppt/slides/_rels/slide2.xml.rels", "<r/>"),
			kindPptx, "two\nten\n", 2},
		{"xlsx", "a.xlsx", zipped(t, "xl/workbook.xml", "<w/>",
			"xl/sharedStrings.xml", `<sst><si><t>Name</t></si><si><r><t>rich </t></r><r><t>text</t></r></si></sst>`,
			"xl/worksheets/sheet1.xml", `<worksheet><sheetData><row><c t="s"><v>0</v></c><c><f>1+1</f><v>2</v></c></row><row><c t="s"><v>1</v></c><c t="inlineStr"><is><t>in</t></is></c><c t="s"><v>99</v></c></row></sheetData></worksheet>`,
			"xl/worksheets/sheet2.xml", `<worksheet><sheetData><row><c><v>3.5</v></c></row></sheetData></worksheet>`),
			kindXlsx, "Name\t2\nrich text\tin\t99\n\n3.5\n", 2},
		{"odt", "a.odt", zipped(t, "mimetype", string(kindODT), "content.xml",
			`<office:document-content><office:body><text:h>Title</text:h><text:p>one<text:s/>two <text:span>deep<text:line-break/>er</text:span></text:p></office:body></office:document-content>`),
			kindODT, "Title\none two deep\ner\n", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, text, err := attempt(t, tc.file, tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if text != tc.text {
				t.Errorf("text %q, want %q", text, tc.text)
			}
			if got.Type != string(tc.kind) || got.Pages != tc.pages || got.Chars != len([]rune(tc.text)) || got.Preview != tc.text {
				t.Errorf("result %+v", got)
			}
		})
	}
}

func TestTextOfPDF(t *testing.T) {
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Skip("no pdftotext here (package poppler-utils)")
	}
	got, text, err := attempt(t, "a.pdf", pdf("Hello page one", "And page two"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Pages != 2 || got.Type != string(kindPDF) || !strings.Contains(text, "Hello page one") || !strings.Contains(text, "And page two") {
		t.Errorf("result %+v, text %q", got, text)
	}
	_, _, err = attempt(t, "b.pdf", []byte("%PDF-1.7 and nothing more"))
	if f, ok := errors.AsType[*task.Fault](err); !ok || f.Type != "BadPDF" {
		t.Errorf("a damaged PDF: %v", err)
	}
}

func TestPreviewIsShortAndWhole(t *testing.T) {
	got, _, err := attempt(t, "a.txt", []byte(strings.Repeat("ä", 1000)))
	if err != nil || got.Chars != 1000 || got.Preview != strings.Repeat("ä", previewChars) {
		t.Errorf("%d characters, preview of %d (%v)", got.Chars, len([]rune(got.Preview)), err)
	}
}

func TestExtractRefuses(t *testing.T) {
	many := make([]string, 0, 2*(maxMembers+1))
	for i := range maxMembers + 1 {
		many = append(many, fmt.Sprintf("word/%d.xml", i), "")
	}
	few := limits{text: 1 << 16, unpacked: 1 << 18}
	long := strings.Repeat("x", few.text/2)
	for _, tc := range []struct {
		name string
		body []byte
		kind string
	}{
		{"an empty file", nil, "EmptyInput"},
		{"a picture", []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), "NotADocument"},
		{"control characters", []byte(strings.Repeat("\x01\x02", 20)), "NotADocument"},
		{"an old Office file", []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1xxxx"), "OldOffice"},
		{"any zip", zipped(t, "a.txt", "x"), "NotADocument"},
		{"a zip of another type", zipped(t, "mimetype", "application/epub+zip"), "NotADocument"},
		{"a damaged zip", []byte("PK\x03\x04 and nothing more"), "BadDocument"},
		{"damaged XML", zipped(t, "word/document.xml", "<w:p><w:t>x</w:t"), "BadDocument"},
		{"a zip of too many parts", zipped(t, many...), "BadDocument"},
		{"a bomb of text", zipped(t, "word/document.xml", "<w><t>"+long+"<b/>"+long+"<b/>x</t></w>"), "TooMuchText"},
		{"a bomb of plain text", []byte(long + "\n" + long + "\n"), "TooMuchText"},
		{"a bomb of markup", zipped(t, "word/document.xml", "<w>"+strings.Repeat("<b/>", int(few.unpacked)/4)), "TooMuchText"},
		{"a bomb of shared strings", zipped(t, "xl/workbook.xml", "", "xl/sharedStrings.xml", "<sst><si><t>"+long+"</t></si><si><t>"+long+"x</t></si></sst>"), "TooMuchText"},
		{"a bomb of repeated cells", zipped(t, "xl/workbook.xml", "", "xl/sharedStrings.xml", "<sst><si><t>"+long+"</t></si></sst>",
			"xl/worksheets/sheet1.xml", "<s><row>"+strings.Repeat(`<c t="s"><v>0</v></c>`, 3)+"</row></s>"), "TooMuchText"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := attemptWithin(t, few, "a", tc.body)
			if f, ok := errors.AsType[*task.Fault](err); !ok || f.Type != tc.kind || f.Code != task.ExitData {
				t.Errorf("got %v, want %s", err, tc.kind)
			}
		})
	}
	if _, err := run(&task.Task{Inputs: []task.Input{{Path: "/nowhere/at/all"}}}, limits{}); err == nil {
		t.Error("a missing file was no error")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("<html><p>x"))
	f.Add([]byte("text"))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte("%PDF-")) {
			t.Skip("left to poppler")
		}
		_, _, err := attempt(t, "a", b)
		if _, fault := errors.AsType[*task.Fault](err); err != nil && !fault {
			t.Errorf("not a fault: %v", err)
		}
	})
}
