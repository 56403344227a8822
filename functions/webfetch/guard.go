package webfetch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// guard decides which addresses may be dialled.
type guard struct {
	prefixes []netip.Prefix
	hosts    []string // lower case, without a last dot
	resolver Resolver
	dialer   net.Dialer
}

func newGuard(allow []string, r Resolver) (*guard, error) {
	g := &guard{resolver: r, dialer: net.Dialer{Timeout: 10 * time.Second}}
	for _, a := range allow {
		if p, err := netip.ParsePrefix(a); err == nil {
			g.prefixes = append(g.prefixes, p.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(a); err == nil && addr.Zone() == "" {
			g.prefixes = append(g.prefixes, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		bad := func(why string) error { return functions.Invalid("bad_url_allow", "%.80q: %s", a, why) }
		if err := checkHost(a, bad); err != nil {
			return nil, err
		}
		g.hosts = append(g.hosts, plain(a))
	}
	return g, nil
}

func plain(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// maxAddresses is how many addresses of one host are tried.
const maxAddresses = 8

// dial finds the addresses of a host, refuses it if any of them is refused, and
// connects to the first that answers. It dials addresses, never names: what is
// dialled is what was checked.
func (g *guard) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	addrs, err := g.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, a := range addrs[:min(len(addrs), maxAddresses)] {
		conn, err := g.dialer.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

func (g *guard) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = g.resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, errors.New("the host has no address")
	}
	named := slices.Contains(g.hosts, plain(host))
	for i, a := range addrs {
		addrs[i] = a.Unmap().WithZone("")
		if !named && !g.lets(a) {
			return nil, functions.NewError(functions.ErrForbidden, "url_refused", "the address of %s is not a public one", host).
				WithHint("an operator can allow it with --url-allow").WithField("url")
		}
	}
	return addrs, nil
}

// lets reports whether an address may be dialled.
func (g *guard) lets(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(g.prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) || public(a)
}

// closed are the addresses that are not of the public internet, or that are of
// the machine's own provider.
var closed = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's services for its guests
	"2001::/23",        // protocols, Teredo among them
	"2001:db8::/32", "3fff::/20",
	"2002::/16", // 6to4: an IPv4 address in disguise
)

var (
	global = netip.MustParsePrefix("2000::/3")     // all of IPv6 that is in use
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // the IPv4 internet, seen from IPv6
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// public reports whether an address is of the public internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.Is6() && !global.Contains(a) {
		return false
	}
	return a.IsValid() && !slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(a) })
}
