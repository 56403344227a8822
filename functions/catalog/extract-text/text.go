package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"

	"github.com/spillway/spillway/functions/catalog/task"
)

// extractPDF runs poppler's pdftotext, which ends each page with a form feed.
func extractPDF(path string, out io.Writer) (pages int, err error) {
	cmd := exec.Command("pdftotext", "-q", "-enc", "UTF-8", path, "-")
	var said bytes.Buffer
	cmd.Stderr = &said
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("run pdftotext: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run pdftotext: %w", err)
	}
	pages, copyErr := copyPages(out, pipe)
	if copyErr != nil {
		pipe.Close() // pdftotext ends when nobody reads
	}
	err = cmd.Wait()
	if copyErr != nil {
		return 0, copyErr
	}
	if exit, ran := errors.AsType[*exec.ExitError](err); ran {
		if exit.ExitCode() == 3 { // its manual: document permissions
			return 0, task.Invalid("Protected", "the PDF does not permit taking its text")
		}
		return 0, task.Invalid("BadPDF", "the PDF cannot be read: %s", firstLine(said.String()))
	}
	if err != nil {
		return 0, fmt.Errorf("run pdftotext: %w", err)
	}
	return pages, nil
}

func copyPages(out io.Writer, r io.Reader) (pages int, err error) {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadString('\n')
		pages += strings.Count(line, "\f")
		if _, err := io.WriteString(out, line); err != nil {
			return pages, err
		}
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, fmt.Errorf("read pdftotext's text: %w", err)
		}
	}
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if l == "" {
		return "it is damaged or locked with a password"
	}
	return l
}

// utf8Reader reads text of any encoding that its first kilobyte, a byte order
// mark or an HTML declaration tell.
func utf8Reader(r io.Reader, contentType string) (*bufio.Reader, error) {
	u, err := charset.NewReader(r, contentType)
	if err != nil {
		return nil, fmt.Errorf("read the text: %w", err)
	}
	return bufio.NewReader(u), nil
}

func extractPlain(r io.Reader, out io.Writer) error {
	br, err := utf8Reader(r, "text/plain")
	if err != nil {
		return err
	}
	for {
		line, err := br.ReadString('\n')
		if _, err := io.WriteString(out, strings.TrimPrefix(line, "\ufeff")); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the text: %w", err)
		}
	}
}

// extractHTML writes what a reader sees: no scripts and styles, runs of white
// space as one, a line for each block.
func extractHTML(r io.Reader, out io.Writer) error {
	br, err := utf8Reader(r, "text/html")
	if err != nil {
		return err
	}
	z := html.NewTokenizer(br)
	z.SetMaxBuf(maxText)
	p := &prose{w: out}
	var hidden atom.Atom // the element whose text is not shown, 0 outside
	for {
		switch tt := z.Next(); tt {
		case html.ErrorToken:
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return task.Invalid("BadDocument", "the HTML cannot be read: %v", err)
			}
			p.line()
			return p.err
		case html.TextToken:
			if hidden == 0 {
				p.words(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			switch a {
			case atom.Script, atom.Style, atom.Noscript, atom.Template:
				hidden = 0
				if tt == html.StartTagToken {
					hidden = a
				}
			case atom.Td, atom.Th:
				p.words(" ")
			default:
				if blocks[a] {
					p.line()
				}
			}
		}
		if p.err != nil {
			return p.err
		}
	}
}

// blocks are the elements that begin a line.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Br: true, atom.Li: true, atom.Tr: true, atom.Title: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true,
	atom.Section: true, atom.Article: true, atom.Header: true, atom.Footer: true, atom.Nav: true,
	atom.Ul: true, atom.Ol: true, atom.Table: true, atom.Blockquote: true, atom.Pre: true, atom.Hr: true,
	atom.Dt: true, atom.Dd: true, atom.Figcaption: true, atom.Body: true,
}

// prose writes words with single spaces, and lines that are not empty.
type prose struct {
	w     io.Writer
	begun bool // the line has a word
	space bool // white space came since the last word
	err   error
}

func (p *prose) words(s string) {
	for i, word := range strings.Fields(s) {
		if p.begun && (i > 0 || p.space || strings.TrimLeft(s, " \t\r\n\f") != s) {
			p.write(" ")
		}
		p.write(strings.ToValidUTF8(word, "\ufffd"))
		p.begun, p.space = true, false
	}
	if strings.TrimRight(s, " \t\r\n\f") != s {
		p.space = true
	}
}

func (p *prose) line() {
	if p.begun {
		p.write("\n")
	}
	p.begun, p.space = false, false
}

func (p *prose) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}
