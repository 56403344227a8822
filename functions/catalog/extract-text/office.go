package main

import (
	"archive/zip"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions/catalog/task"
)

// maxUnpacked is the most XML that is read from one document, in bytes. It
// bounds the time and, since one text may be all of it, the memory that a zip
// bomb can take; maxText bounds what it can give.
const maxUnpacked = 128 << 20

// maxMembers is the most members that a document may have.
const maxMembers = 10_000

func openZip(f *os.File) (*zip.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, task.Invalid("BadDocument", "the document is damaged: %v", err)
	}
	if len(z.File) > maxMembers {
		return nil, task.Invalid("BadDocument", "the document has %d parts, over the limit of %d", len(z.File), maxMembers)
	}
	return z, nil
}

func extractOffice(kind kind, f *os.File, out io.Writer, most limits) (pages int, err error) {
	z, err := openZip(f)
	if err != nil {
		return 0, err
	}
	d := &document{zip: z, left: most.unpacked, text: most.text}
	switch kind {
	case kindDocx:
		for _, part := range []string{"word/document.xml", "word/footnotes.xml", "word/endnotes.xml"} {
			if err := d.flatten(part, ooxml, out); err != nil {
				return 0, err
			}
		}
		return 0, nil
	case kindPptx:
		slides := d.numbered("ppt/slides/slide")
		for _, part := range slides {
			if err := d.flatten(part, ooxml, out); err != nil {
				return 0, err
			}
		}
		return len(slides), nil
	case kindXlsx:
		return d.sheets(out)
	}
	return 0, d.flatten("content.xml", opendocument, out)
}

func write(out io.Writer, s string) error {
	if s == "" {
		return nil
	}
	_, err := io.WriteString(out, s)
	return err
}

// document is an open zip file with what may still be unpacked from it.
type document struct {
	zip  *zip.Reader
	left int64
	text int // most bytes of shared strings to keep
}

// numbered returns the members prefix1.xml, prefix2.xml and so on, by number.
func (d *document) numbered(prefix string) []string {
	number := func(name string) int {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, prefix), ".xml"))
		if err != nil {
			return -1
		}
		return n
	}
	var parts []string
	for _, m := range d.zip.File {
		if strings.HasPrefix(m.Name, prefix) && path.Ext(m.Name) == ".xml" && number(m.Name) >= 0 {
			parts = append(parts, m.Name)
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return number(a) - number(b) })
	return parts
}

// walk calls visit for each XML token of a member. A member that is not there
// has no tokens.
func (d *document) walk(part string, visit func(xml.Token) error) error {
	f, err := d.zip.Open(part)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return task.Invalid("BadDocument", "%s is damaged: %v", part, err)
	}
	defer f.Close()
	dec := xml.NewDecoder(&bounded{r: f, d: d})
	dec.Strict = false
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, errTooMuch) {
			return err
		}
		if err != nil {
			return task.Invalid("BadDocument", "%s is damaged: %v", part, err)
		}
		if err := visit(tok); err != nil {
			return err
		}
	}
}

// bounded counts what is unpacked, over all members.
type bounded struct {
	r io.Reader
	d *document
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.d.left -= int64(n); b.d.left < 0 {
		return 0, errTooMuch
	}
	return n, err
}

// grammar says how the text lies in the XML: by local element name.
type grammar struct {
	text map[string]bool   // its character data is text
	mark map[string]string // stands for this text
	end  map[string]string // its end stands for this text
}

var ooxml = grammar{
	text: map[string]bool{"t": true},
	mark: map[string]string{"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"},
	end:  map[string]string{"p": "\n", "tc": "\t"},
}

var opendocument = grammar{
	text: map[string]bool{"p": true, "h": true},
	mark: map[string]string{"tab": "\t", "line-break": "\n", "s": " "},
	end:  map[string]string{"p": "\n", "h": "\n"},
}

// flatten writes the text of one member. Inside a text element all character
// data counts, however deep: OpenDocument wraps words in spans.
func (d *document) flatten(part string, g grammar, out io.Writer) error {
	depth := 0
	return d.walk(part, func(tok xml.Token) error {
		var s string
		switch t := tok.(type) {
		case xml.StartElement:
			if g.text[t.Name.Local] {
				depth++
			}
			s = g.mark[t.Name.Local]
		case xml.EndElement:
			if g.text[t.Name.Local] && depth > 0 {
				depth--
			}
			s = g.end[t.Name.Local]
		case xml.CharData:
			if depth > 0 {
				s = strings.ToValidUTF8(string(t), "\ufffd")
			}
		}
		return write(out, s)
	})
}

// sheets writes a workbook: a line for each row, a tab between cells, an empty
// line between sheets.
func (d *document) sheets(out io.Writer) (pages int, err error) {
	shared, err := d.sharedStrings()
	if err != nil {
		return 0, err
	}
	parts := d.numbered("xl/worksheets/sheet")
	for i, part := range parts {
		if i > 0 {
			if err := write(out, "\n"); err != nil {
				return 0, err
			}
		}
		if err := d.sheet(part, shared, out); err != nil {
			return 0, err
		}
	}
	return len(parts), nil
}

func (d *document) sheet(part string, shared []string, out io.Writer) error {
	var cell strings.Builder
	cells := 0      // written of this row
	var kind string // of the cell: s = index of a shared string
	reading := false
	return d.walk(part, func(tok xml.Token) error {
		switch t := tok.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "row":
				cells = 0
			case "c":
				cell.Reset()
				kind = attr(t, "t")
			case "v", "t":
				reading = true
			}
		case xml.CharData:
			if reading {
				cell.Write(t)
			}
		case xml.EndElement:
			switch t.Name.Local {
			case "v", "t":
				reading = false
			case "c":
				v := strings.ToValidUTF8(cell.String(), "\ufffd")
				if kind == "s" {
					if i, err := strconv.Atoi(v); err == nil && i >= 0 && i < len(shared) {
						v = shared[i]
					}
				}
				if cells > 0 {
					v = "\t" + v
				}
				cells++
				return write(out, v)
			case "row":
				return write(out, "\n")
			}
		}
		return nil
	})
}

// sharedStrings reads the table of texts that cells name by number.
func (d *document) sharedStrings() ([]string, error) {
	var all []string
	var one strings.Builder
	size, reading := 0, false
	err := d.walk("xl/sharedStrings.xml", func(tok xml.Token) error {
		switch t := tok.(type) {
		case xml.StartElement:
			reading = t.Name.Local == "t"
			if t.Name.Local == "si" {
				one.Reset()
			}
		case xml.CharData:
			if reading {
				one.Write(t)
				if size += len(t); size > d.text {
					return errTooMuch
				}
			}
		case xml.EndElement:
			reading = false
			if t.Name.Local == "si" {
				all = append(all, strings.ToValidUTF8(one.String(), "\ufffd"))
			}
		}
		return nil
	})
	return all, err
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
