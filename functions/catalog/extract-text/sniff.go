package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path"
	"strings"

	"github.com/spillway/spillway/functions/catalog/task"
)

// kind is a media type that we can take text from.
type kind string

const (
	kindPDF  kind = "application/pdf"
	kindHTML kind = "text/html"
	kindText kind = "text/plain"
	kindDocx kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	kindXlsx kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	kindPptx kind = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	kindODT  kind = "application/vnd.oasis.opendocument.text"
	kindODS  kind = "application/vnd.oasis.opendocument.spreadsheet"
	kindODP  kind = "application/vnd.oasis.opendocument.presentation"
)

// sniff decides by the bytes; the name only tells HTML from other text.
func sniff(f *os.File, name string) (kind, error) {
	head := make([]byte, 1024)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	switch {
	case n == 0:
		return "", task.Invalid("EmptyInput", "the input has no bytes")
	case bytes.Contains(head, []byte("%PDF-")): // readers accept it anywhere in the first kilobyte
		return kindPDF, nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return sniffZip(f)
	case bytes.HasPrefix(head, []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
		return "", task.Invalid("OldOffice", "this is an Office file from before 2007; save it as docx, xlsx or pptx")
	}
	ext := strings.ToLower(path.Ext(name))
	if strings.HasPrefix(http.DetectContentType(head), "text/html") || ext == ".html" || ext == ".htm" || ext == ".xhtml" {
		return kindHTML, nil
	}
	if binary(head) {
		return "", task.Invalid("NotADocument", "the input is not a PDF, Office, OpenDocument, HTML or text file")
	}
	return kindText, nil
}

// binary reports whether text never begins like that: zero bytes without the
// mark of UTF-16, or many control characters.
func binary(head []byte) bool {
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return false
	}
	odd := 0
	for _, b := range head {
		if b == 0 {
			return true
		}
		if b < 0x20 && b != '\t' && b != '\n' && b != '\r' && b != '\f' && b != 0x1b {
			odd++
		}
	}
	return odd*50 > len(head)
}

// sniffZip tells the document formats that are zip files by their members.
func sniffZip(f *os.File) (kind, error) {
	z, err := openZip(f)
	if err != nil {
		return "", err
	}
	for _, m := range z.File {
		switch m.Name {
		case "word/document.xml":
			return kindDocx, nil
		case "xl/workbook.xml":
			return kindXlsx, nil
		case "ppt/presentation.xml":
			return kindPptx, nil
		case "mimetype":
			return sniffMimetype(m)
		}
	}
	return "", task.Invalid("NotADocument", "the input is a zip file, but no Office or OpenDocument file")
}

func sniffMimetype(m *zip.File) (kind, error) {
	r, err := m.Open()
	if err != nil {
		return "", task.Invalid("BadDocument", "the document is damaged: %v", err)
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, 128))
	if err != nil {
		return "", task.Invalid("BadDocument", "the document is damaged: %v", err)
	}
	switch k := kind(strings.TrimSpace(string(body))); k {
	case kindODT, kindODS, kindODP:
		return k, nil
	}
	return "", task.Invalid("NotADocument", "%.80q is not a kind of document that is known here", body)
}
