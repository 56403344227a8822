// Package dashboard is the web page of the gateway: people choose a function and
// files, the browser sends the files straight to the object store, and the page
// shows what became of each task.
//
// The page itself holds nothing secret and asks for no key; what it calls does.
// It is one HTML file with one module and one style sheet, all built in, and its
// policy lets the browser speak to this gateway and the store and to nobody else.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/spillway/spillway/functions"
)

//go:embed page.html upload.js upload.css
var files embed.FS

// Config is what a Page needs.
type Config struct {
	Store string // URL that browsers reach the object store at
}

// Page serves the web page and its parts.
type Page struct {
	policy string
	parts  []part
}

// part is one file that is served as it is.
type part struct {
	path, contentType, cache string
	body                     []byte
	etag                     string
}

// originPattern keeps what a URL's host may hold, and a policy may not, out of
// the policy.
var originPattern = regexp.MustCompile(`^https?://[A-Za-z0-9.:_\[\]-]+$`)

// New makes the page for a store.
func New(cfg Config) (*Page, error) {
	u, err := url.Parse(cfg.Store)
	if err != nil || !originPattern.MatchString(u.Scheme+"://"+u.Host) {
		return nil, functions.Invalid("bad_store_url", "%q is not a URL that browsers can reach the store at", cfg.Store)
	}
	store := u.Scheme + "://" + u.Host
	p := &Page{policy: strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self' " + store,
		"form-action 'self' " + store, "base-uri 'none'", "frame-ancestors 'none'",
	}, "; ")}
	script, err := p.add("upload.js", "text/javascript; charset=utf-8")
	if err != nil {
		return nil, err
	}
	style, err := p.add("upload.css", "text/css; charset=utf-8")
	if err != nil {
		return nil, err
	}
	html, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := html.Execute(&b, map[string]string{"Script": script, "Style": style}); err != nil {
		return nil, err
	}
	p.parts = append(p.parts, part{"/upload", "text/html; charset=utf-8", "no-cache", b.Bytes(), `"` + digest(b.Bytes()) + `"`})
	return p, nil
}

// add serves a file under a name that holds its hash, so that browsers may keep
// it for ever, and returns its path.
func (p *Page) add(name, contentType string) (string, error) {
	b, err := files.ReadFile(name)
	if err != nil {
		return "", err
	}
	base, ext, _ := strings.Cut(name, ".")
	path := "/upload/" + base + "." + digest(b) + "." + ext
	p.parts = append(p.parts, part{path, contentType, "public, max-age=31536000, immutable", b, `"` + digest(b) + `"`})
	return path, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Routes mounts the page. It is to be open: the page asks for the key itself.
func (p *Page) Routes(register func(method, path string, h http.HandlerFunc)) {
	for _, f := range p.parts {
		register(http.MethodGet, f.path, func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, f) })
	}
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request, f part) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", f.cache)
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.body) // a reader that went away is no error of ours
}
