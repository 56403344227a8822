package gateway

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// formPage is a form that a plain browser sends as it stands. The file comes
// last: the store reads no field behind it.
var formPage = template.Must(template.New("form").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Upload {{.Name}}</title>
</head>
<body>
<h1>Upload {{.Name}}</h1>
<p>The file starts {{.Function}} as soon as it is there. Send it before {{.Form.ExpiresAt.UTC.Format "2006-01-02 15:04:05 UTC"}}, or load this page again.</p>
<form method="post" enctype="multipart/form-data" action="{{.Form.URL}}">
{{range $name, $value := .Form.Fields}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}<p><input type="file" name="{{.Form.FileField}}" required> <button>Upload</button></p>
</form>
<p><a href="{{.StatusURL}}">Task {{.ID}}</a></p>
</body>
</html>
`))

// writeSession answers an upload: as a page when it is a form and the caller
// asks for one, else as JSON.
func writeSession(w http.ResponseWriter, r *http.Request, status int, v *uploadView) error {
	w.Header().Add("Vary", "Accept")
	if v.Form == nil || !wantsPage(r) {
		return writeJSON(w, status, v)
	}
	var page bytes.Buffer
	if err := formPage.Execute(&page, v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; form-action "+formTarget(v.Form.URL)+"; base-uri 'none'; frame-ancestors 'none'; sandbox allow-forms")
	w.WriteHeader(status)
	_, err := w.Write(page.Bytes())
	return err
}

func wantsPage(r *http.Request) bool {
	for one := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, _, _ := strings.Cut(one, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
			return true
		}
	}
	return false
}

// formTarget is where the page may send its form: the store's origin. A policy
// cannot name an IPv6 address, and allows the scheme instead.
func formTarget(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return "'none'"
	case strings.Contains(u.Hostname(), ":") || strings.ContainsAny(u.Host, " ;,'"):
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}
