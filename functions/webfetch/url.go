package webfetch

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// maxURL bounds a URL in bytes; signed ones take about two thousand.
const maxURL = 8 << 10

// Parse reads a URL that files may be fetched from, and drops its fragment.
func Parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, badURL(raw, "it is over 8 KiB")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return nil, badURL(raw, "it holds a space, a control character or a backslash")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, badURL(raw, "it cannot be parsed")
	}
	if err := check(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// check refuses a URL that is not plainly http or https to a host by its name or
// by its usual address.
func check(u *url.URL) error {
	bad := func(why string) error { return badURL(u.String(), why) }
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("its scheme is not http or https")
	case u.Opaque != "":
		return bad("it has no host")
	case u.User != nil:
		return bad("it holds a user or a password")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("its port is out of range")
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return bad("its port is empty")
	}
	return checkHost(u.Hostname(), bad)
}

func checkHost(host string, bad func(string) error) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return bad("its address has a zone")
		}
		return nil
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || len(host) > 254 {
			return bad("its host is not a name")
		}
		for _, c := range []byte(l) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return bad("its host holds characters other than letters, digits, - and . (write international names as xn--)")
			}
		}
	}
	// What ends in a number is an address in some other way of writing.
	last := strings.ToLower(labels[len(labels)-1])
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return bad("its host is a number that is not written as an address")
	}
	return nil
}

func badURL(raw, why string) *functions.Error {
	return functions.Invalid("bad_url", "%.200q is not a URL to fetch from: %s", Show(raw), why).
		WithHint("write http://HOST/PATH or https://HOST/PATH").WithField("url")
}

// Show is a URL without what may be a secret in it: user, query and fragment.
func Show(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		return raw
	}
	host, path, slash := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if slash {
		path = "/" + path
	}
	return scheme + "://" + host + path
}
