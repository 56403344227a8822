// Command extract-text takes the text out of a document: PDF, Office (docx,
// xlsx, pptx), OpenDocument, HTML, and plain text of any common encoding.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spillway/spillway/functions/catalog/task"
)

// maxText is the most text that one document may give, in bytes. A few
// kilobytes of a crafted file can hold terabytes.
const maxText = 64 << 20

// previewChars is how much of the text the result itself carries.
const previewChars = 400

func main() {
	task.Main(func(t *task.Task) (any, error) { return run(t, limits{text: maxText, unpacked: maxUnpacked}) })
}

// limits bound what one document may take, in bytes.
type limits struct {
	text     int   // written
	unpacked int64 // read of the parts of a zip
}

type result struct {
	File    string `json:"file"`
	Type    string `json:"type"`
	Chars   int    `json:"chars"`
	Pages   int    `json:"pages,omitempty"` // pages, slides or sheets; absent where there are none
	Preview string `json:"preview"`
}

func run(t *task.Task, most limits) (any, error) {
	in, err := t.Input()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(in.Path)
	if err != nil {
		return nil, task.NoInput("NoInput", "the input cannot be opened: %v", err)
	}
	defer f.Close()
	kind, err := sniff(f, in.Name)
	if err != nil {
		return nil, err
	}
	t.Progress(0.1, string(kind))
	const name = "text.txt"
	out, err := newSink(t.OutPath(name), most.text)
	if err != nil {
		return nil, err
	}
	defer out.close()
	pages, err := extract(kind, f, in.Path, out, most)
	if errors.Is(err, errTooMuch) {
		return nil, task.Invalid("TooMuchText", "the document unpacks to more than %d MiB of text or %d MiB in all", most.text>>20, most.unpacked>>20)
	}
	if err != nil {
		return nil, err
	}
	if err := out.close(); err != nil {
		return nil, fmt.Errorf("write the text: %w", err)
	}
	return result{File: name, Type: string(kind), Chars: out.chars, Pages: pages, Preview: out.preview.String()}, nil
}

// extract writes the text of a document of that kind to out.
func extract(kind kind, f *os.File, path string, out io.Writer, most limits) (pages int, err error) {
	switch kind {
	case kindPDF:
		return extractPDF(path, out)
	case kindHTML:
		return 0, extractHTML(f, out)
	case kindText:
		return 0, extractPlain(f, out)
	}
	return extractOffice(kind, f, out, most)
}

var errTooMuch = errors.New("too much text")

// sink is the text file. It counts characters and keeps the beginning.
type sink struct {
	file    *os.File
	w       *bufio.Writer
	most    int // bytes that may be written
	bytes   int
	chars   int
	preview strings.Builder
	kept    int // characters in preview
}

func newSink(path string, most int) (*sink, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create the text file: %w", err)
	}
	return &sink{file: f, w: bufio.NewWriter(f), most: most}, nil
}

// Write takes whole characters: every extractor writes strings that it decoded.
func (s *sink) Write(p []byte) (int, error) {
	if s.bytes += len(p); s.bytes > s.most {
		return 0, errTooMuch
	}
	s.chars += utf8.RuneCount(p)
	for _, r := range string(p) {
		if s.kept == previewChars {
			break
		}
		s.preview.WriteRune(r)
		s.kept++
	}
	return s.w.Write(p)
}

// close writes what is left. Closing again does nothing new.
func (s *sink) close() error {
	if err := s.w.Flush(); err != nil {
		s.file.Close()
		return err
	}
	return s.file.Close()
}
