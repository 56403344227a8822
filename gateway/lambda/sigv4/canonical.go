package sigv4

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// readQuery returns the canonical query: names and values encoded anew, sorted,
// each name with an equals sign. It refuses what a handler would see otherwise
// than we do, and signatures in the query.
func readQuery(u *url.URL) (string, *Error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", incomplete("The query string cannot be read: %v.", err)
	}
	if values.Has("X-Amz-Signature") || values.Has("X-Amz-Algorithm") {
		return "", invalid("Presigned URLs are not supported here: send the signature in the Authorization header.")
	}
	type pair struct{ name, value string }
	var pairs []pair
	for name, all := range values {
		for _, value := range all {
			pairs = append(pairs, pair{escape(name, false), escape(value, false)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String(), nil
}

// canonicalPath encodes the path, which is encoded already, once more, as every
// service but S3 has it.
func canonicalPath(u *url.URL) string {
	return cmp.Or(escape(u.EscapedPath(), true), "/")
}

// escape encodes every byte but letters, digits, - . _ ~, and in a path /.
func escape(s string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', path && c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// canonicalHeaders returns a line for each of the headers in signed.
func canonicalHeaders(r *http.Request, signed string) (string, *Error) {
	var b strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		values := headerValues(r, name)
		if len(values) == 0 {
			return "", invalid("The header '%s' is in SignedHeaders, but not in the request.", name)
		}
		b.WriteString(name + ":")
		for i, value := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(squeeze(value))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// headerValues returns what came in a header. net/http keeps two of them apart.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "host":
		return []string{r.Host}
	case "content-length":
		if r.ContentLength < 0 {
			return nil
		}
		return []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	return r.Header[textproto.CanonicalMIMEHeaderKey(name)]
}

// squeeze trims a value and makes one space of several.
func squeeze(s string) string {
	s = strings.TrimSpace(s)
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}

// payloadHash returns the body's hash, which the client may have told too.
func payloadHash(sent []string, body []byte) (string, *Error) {
	digest := sha256.Sum256(body)
	hash := hex.EncodeToString(digest[:])
	for _, told := range sent {
		switch {
		case told == "UNSIGNED-PAYLOAD", strings.HasPrefix(told, "STREAMING-"):
			return "", invalid("The body must be signed: '%s' is not supported as X-Amz-Content-Sha256.", told)
		case told != hash:
			return "", invalid("The value of X-Amz-Content-Sha256 is not the SHA-256 of the body that arrived.")
		}
	}
	return hash, nil
}
