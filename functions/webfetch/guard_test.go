package webfetch

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"2606:4700::1111": true, "2a00:1450:4001::1": true, "64:ff9b::808:808": true, "::ffff:8.8.8.8": true,

		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.255.255.254": false, "10.1.2.3": false, "172.16.0.1": false,
		"172.31.255.255": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.100.100.200": false,
		"192.0.0.192": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.9": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false, "168.63.129.16": false, "192.88.99.1": false,
		"::": false, "::1": false, "::127.0.0.1": false, "::8.8.8.8": false, "::ffff:127.0.0.1": false, "::ffff:a9fe:a9fe": false,
		"::ffff:0:127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::808:808": false,
		"2002:7f00:1::": false, "2002:808:808::1": false, "2001:0:4136:e378::1": false, "2001:db8::1": false, "3fff::1": false,
		"fc00::1": false, "fd00:ec2::254": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "100::1": false,
	} {
		if got := public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: public %v, want %v", addr, got, want)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is a public one")
	}
}

// evil are URLs that lead, or may lead, to what is not public, as text.
var evil = []string{
	"", "x", "//host/x", "/etc/passwd", "file:///etc/passwd", "ftp://host/x", "gopher://127.0.0.1:25/x", "javascript:alert(1)", "http:host/x",
	"http://", "http:///x", "https://:80/x", "http://host:/x", "http://host:0/x", "http://host:65536/x", "http://host:-1/x", "http://host:http/x",
	"http://user@host/x", "http://user:pw@host/x", "http://host@127.0.0.1/x", "http://@host/x", "http://127.0.0.1#@host/../x@y@host:0/",
	"http://2130706433/", "http://0x7f000001/", "http://0X7F.1/", "http://0177.0.0.1/", "http://017700000001/", "http://127.1/", "http://127.0.1/",
	"http://0/", "http://1/", "http://127.0.0.1./", "http://2130706433./", "http://host.0x7f/", "http://host.1/", "http://256.256.256.256/", "http://0x/",
	"http://[fe80::1%25eth0]/", "http://[::1%25lo]/", "http://[::1]x/", "http://[::1/", "http://::1/", "http://[127.0.0.1]/x",
	"http://127。0。0。1/", "http://①②⑦.0.0.1/", "http://ⓛocalhost/", "http://ho%73t/", "http://host%00/", "http://127.0.0.1%2f@host/",
	"http://ho st/", "http://host\t/", "http://host/\r\nX: y", "http://host\\@127.0.0.1/", "http://.host/", "http://a..b/", "http://host../", "http://*/",
	"http://" + strings.Repeat("a", 64) + "/", "http://" + strings.Repeat("a.", 130) + "a/", "http://host/" + strings.Repeat("a", maxURL),
}

func TestEvilURLs(t *testing.T) {
	g := mustGuard(t, nil, hosts{})
	for _, raw := range evil {
		u, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, functions.ErrInvalid) {
				t.Errorf("%.80q: %v is no refusal", raw, err)
			}
			continue
		}
		// What is an address in plain sight is for the guard to refuse.
		a, parsed := netip.ParseAddr(u.Hostname())
		if parsed != nil || g.lets(a) {
			t.Errorf("%.80q is taken, as host %q", raw, u.Hostname())
		}
	}
	for _, raw := range []string{
		"http://host/", "https://HOST.example.:8443/a%20b?x=http://127.0.0.1/#frag", "http://8.8.8.8/", "http://[2606:4700::1111]:80/x", "http://a_b.xn--p1ai/",
	} {
		u, err := Parse(raw)
		if err != nil || u.Fragment != "" {
			t.Errorf("%s: %v %v", raw, u, err)
		}
	}
}

// hosts is a name server of its own. It may answer differently each time.
type hosts map[string][][]string

func (h hosts) LookupNetIP(_ context.Context, _, host string) (out []netip.Addr, err error) {
	answers := h[strings.ToLower(host)]
	if len(answers) == 0 {
		return nil, errors.New("no such host")
	}
	if len(answers) > 1 {
		h[host] = answers[1:]
	}
	for _, a := range answers[0] {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func mustGuard(t testing.TB, allow []string, r Resolver) *guard {
	t.Helper()
	g, err := newGuard(allow, r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAddresses(t *testing.T) {
	names := hosts{
		"public": {{"8.8.8.8", "2606:4700::1111"}}, "private": {{"10.0.0.1"}}, "both": {{"8.8.8.8", "127.0.0.1"}}, "both-again": {{"::1", "8.8.8.8"}},
		"mapped": {{"::ffff:127.0.0.1"}}, "localhost": {{"127.0.0.1", "::1"}}, "localhost.": {{"127.0.0.1"}}, "metadata": {{"169.254.169.254"}}, "nowhere": {{}},
	}
	for _, c := range []struct {
		allow []string
		host  string
		class error // nil: lets it through
	}{
		{nil, "public", nil}, {nil, "8.8.8.8", nil}, {nil, "private", functions.ErrForbidden}, {nil, "both", functions.ErrForbidden},
		{nil, "both-again", functions.ErrForbidden}, {nil, "mapped", functions.ErrForbidden}, {nil, "localhost", functions.ErrForbidden},
		{nil, "localhost.", functions.ErrForbidden}, {nil, "metadata", functions.ErrForbidden}, {nil, "127.0.0.1", functions.ErrForbidden},
		{nil, "::1", functions.ErrForbidden}, {nil, "::ffff:127.0.0.1", functions.ErrForbidden}, {nil, "0.0.0.0", functions.ErrForbidden},
		{[]string{"10.0.0.0/8"}, "private", nil}, {[]string{"10.0.0.1"}, "private", nil}, {[]string{"10.0.0.2"}, "private", functions.ErrForbidden},
		{[]string{"Private."}, "private", nil}, {[]string{"private"}, "metadata", functions.ErrForbidden}, {[]string{"private"}, "10.0.0.1", functions.ErrForbidden},
		{[]string{"127.0.0.0/8"}, "both", nil}, {[]string{"127.0.0.0/8"}, "localhost", functions.ErrForbidden}, // ::1 is not allowed
		{[]string{"127.0.0.0/8", "::1"}, "localhost", nil}, {[]string{"127.0.0.1"}, "mapped", nil},
	} {
		addrs, err := mustGuard(t, c.allow, names).addresses(t.Context(), c.host)
		if c.class == nil && (err != nil || len(addrs) == 0) || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("allow %v, %s: %v %v, want %v", c.allow, c.host, addrs, err, c.class)
		}
	}
	if _, err := mustGuard(t, nil, names).addresses(t.Context(), "nowhere"); err == nil {
		t.Error("a host without addresses is dialled")
	}
	for _, bad := range []string{"", "10.0.0.0/33", "http://host", "host:80", "fe80::1%eth0", "127.1", "*"} {
		if _, err := newGuard([]string{bad}, names); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("allow %q: %v", bad, err)
		}
	}
}

// Whatever the text, what Parse lets through names its host the same way to
// whoever reads it again, and is no number but a plain address.
func FuzzParse(f *testing.F) {
	for _, raw := range evil {
		f.Add(raw)
	}
	f.Add("https://HOST.example.:8443/a%20b?x=y#frag")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := Parse(raw)
		if err != nil {
			return
		}
		again, err := Parse(u.String())
		if err != nil || again.Host != u.Host || again.Scheme != u.Scheme {
			t.Fatalf("%q is %q, and that is %v (%v)", raw, u, again, err)
		}
		if u.User != nil || u.Hostname() == "" || strings.ContainsAny(u.Host, "@/\\%? #") {
			t.Fatalf("%q: host %q", raw, u.Host)
		}
		std, err := url.Parse(Show(raw))
		if err == nil && (std.RawQuery != "" || std.User != nil) {
			t.Fatalf("%q shows %q", raw, Show(raw))
		}
	})
}

func FuzzPublic(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add(netip.MustParseAddr("64:ff9b::7f00:1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || !public(a) {
			return
		}
		if p := a.Unmap(); p.IsPrivate() || p.IsLoopback() || p.IsMulticast() || p.IsUnspecified() || p.IsLinkLocalUnicast() || !p.IsGlobalUnicast() {
			t.Errorf("%s is taken for public", a)
		}
		if a.Is4() && public(a) != public(netip.AddrFrom16(a.As16())) {
			t.Errorf("%s is judged otherwise when it is mapped", a)
		}
	})
}
