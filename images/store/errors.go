package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/spillway/spillway/functions"
)

// guard lets no request go out in the clear but to registries that may be spoken
// to like that: it would carry credentials, and nothing would prove what comes.
type guard struct {
	next  http.RoundTripper
	plain []string // host or host:port
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.allowed(r.URL) {
		return nil, functions.Forbidden("registry_insecure", "registry %s speaks plain HTTP", r.URL.Host).
			WithHint("give it a certificate, or name it among the insecure registries")
	}
	return g.next.RoundTrip(r)
}

func (g guard) allowed(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() || listed(g.plain, u.Host)
}

// listed reports whether a list has a registry, with or without its port.
func listed(registries []string, registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	return slices.Contains(registries, registry) || err == nil && slices.Contains(registries, host)
}

// lasting reports whether an error stays the same however often it is tried.
func lasting(err error) bool {
	for _, class := range []error{functions.ErrInvalid, functions.ErrNotFound, functions.ErrForbidden, functions.ErrTooLarge, context.Canceled} {
		if errors.Is(err, class) {
			return true
		}
	}
	var refused *transport.Error
	return errors.As(err, &refused) && !refused.Temporary()
}

// pullError gives an error of a pull its class, and names image and registry.
func pullError(n imageName, err error) error {
	registry := n.ref.Context().RegistryStr()
	var known *functions.Error
	var refused *transport.Error
	var netErr net.Error
	switch {
	case errors.As(err, &known):
		return fmt.Errorf("pull image %s: %w", n, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("pull image %s: %w", n, err)
	case errors.As(err, &refused):
		return refusal(n, registry, refused)
	case errors.As(err, &netErr), isBroken(err):
		return functions.Unavailable("registry_unreachable", "image %s is not on the node, and registry %s does not answer", n, registry).
			WithHint("check that the node reaches the registry, or load the image there").WithCause(err)
	}
	return fmt.Errorf("pull image %s: %w", n, err)
}

// refusal says what a registry's answer means.
func refusal(n imageName, registry string, err *transport.Error) error {
	switch {
	case err.StatusCode == http.StatusUnauthorized, err.StatusCode == http.StatusForbidden:
		return functions.Forbidden("registry_credentials", "registry %s does not give image %s to this node's credentials", registry, n).
			WithHint("check the name; credentials for the registry come from `docker login %s` on the node, or from the file that SPILLWAY_NODE_REGISTRY_AUTH names", registry).WithCause(err)
	case err.StatusCode == http.StatusNotFound:
		return functions.NotFound("image_missing", "registry %s has no image %s", registry, n).
			WithHint("check the image's name").WithCause(err)
	}
	return functions.Unavailable("registry_failed", "registry %s does not give image %s: it answered %d", registry, n, err.StatusCode).
		WithHint("look at the registry, or load the image on the node").WithCause(err)
}

// isBroken reports whether a transfer broke off.
func isBroken(err error) bool {
	for _, broken := range []error{io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}
