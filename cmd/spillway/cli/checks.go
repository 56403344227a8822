package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// maxSkew is how far this clock may be from the gateway's: signed URLs are
// refused beyond 15 minutes, and log times mislead long before.
const maxSkew = 30 * time.Second

// gatewayChecks are what is looked at through a gateway that answers; nodes and
// err are its answer about nodes.
func gatewayChecks(c *client, nodes []functions.NodeStatus, err error) []Check {
	return []Check{
		{Name: "clocks agree", Fix: "run an NTP client on both machines", Run: c.checkClock},
		{Name: "gateway is ready", Fix: "the part with a minus is not there: read the server's log", Run: c.checkReady},
		{Name: "a node is ready", Fix: "start one with: spillway node; spillway nodes says why one is not ready",
			Run: func(context.Context) (string, error) { return checkNodes(nodes, err) }},
		{Name: "GPUs are well", Fix: "spillway nodes --gpus says why, and spillway doctor --gpu on that node what to do; until then tasks that only prefer a GPU run on the CPU",
			Run: func(context.Context) (string, error) { return checkGPUs(nodes, err) }},
		{Name: "store is reachable from here", Fix: "set the server's --store-public to an address that this machine can open", Run: c.checkStore},
	}
}

func (c *client) checkAnswer(ctx context.Context) (string, error) {
	_, err := c.send(ctx, http.MethodGet, "/livez", "", nil)
	return c.base, err
}

func (c *client) checkClock(ctx context.Context) (string, error) {
	resp, err := c.do(ctx, http.MethodGet, "/livez", nil, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return "", fmt.Errorf("the gateway sent no date: %w", err)
	}
	if skew := time.Since(at).Abs(); skew > maxSkew {
		return "", fmt.Errorf("the gateway's clock differs by %s", skew.Round(time.Second))
	}
	return "within " + maxSkew.String(), nil
}

func (c *client) checkReady(ctx context.Context) (string, error) {
	raw, err := c.send(ctx, http.MethodGet, "/readyz?verbose=1", "", nil)
	return strings.Join(strings.Fields(string(raw)), " "), err
}

// nodes lists the nodes, unless there is a reason not to ask.
func (c *client) nodes(ctx context.Context, not error) ([]functions.NodeStatus, error) {
	if not != nil {
		return nil, not
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	var page struct{ Nodes []functions.NodeStatus }
	_, err := c.get(ctx, "/v1/nodes", &page)
	return page.Nodes, err
}

func checkNodes(nodes []functions.NodeStatus, err error) (string, error) {
	if err != nil {
		return "", err
	}
	ready, why := 0, ""
	for _, n := range nodes {
		switch {
		case n.Alive && n.Ready:
			ready++
		case n.Reason != "":
			why += fmt.Sprintf("; %s: %s", n.ID, n.Reason)
		}
	}
	if ready == 0 {
		return "", errors.New("no node is alive and ready" + why)
	}
	return fmt.Sprintf("%d of %d", ready, len(nodes)) + why, nil
}

func checkGPUs(nodes []functions.NodeStatus, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var all functions.NodeInfo
	var sick string
	for _, n := range nodes {
		if !n.Alive {
			continue
		}
		all.GPUs = append(all.GPUs, n.GPUs...)
		if h := n.GPUHost; h != nil && h.State == functions.GPUHostOff {
			sick += fmt.Sprintf("; all of %s: %s", n.ID, h.Reason)
			continue
		}
		for _, g := range n.GPUs {
			if !g.State.Healthy() {
				sick += fmt.Sprintf("; %s on %s: %s", g.UUID, n.ID, g.Reason)
			}
		}
	}
	if sick != "" {
		return "", warn("%s%s", gpuCell(all), sick)
	}
	if len(all.GPUs) == 0 {
		return "", skip("no node has one; tasks that only prefer a GPU run on the CPU")
	}
	return gpuCell(all), nil
}

// hostSkip is why this machine's own parts need no check: it runs no containers.
func hostSkip(base string, nodes []functions.NodeStatus, err error) error {
	u, parseErr := url.Parse(base)
	if parseErr == nil {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return skip("the gateway is on another machine; run doctor on the nodes for this")
		}
	}
	if err != nil || len(nodes) == 0 {
		return nil
	}
	for _, n := range nodes {
		if n.Driver != driverSimulated {
			return nil
		}
	}
	return skip("no node runs containers: they are simulated")
}

// driverSimulated is the runtime of rehearsals, which needs nothing of the machine.
const driverSimulated = "simulated"

// uses says whether any node runs containers with a runtime.
func uses(nodes []functions.NodeStatus, driver string) bool {
	return slices.ContainsFunc(nodes, func(n functions.NodeStatus) bool { return n.Driver == driver })
}

// checkStore reads one byte of a result by a signed URL: address, port, TLS and
// signature are then known to work from here. Nothing is written, since an
// object in the store starts functions.
func (c *client) checkStore(ctx context.Context) (string, error) {
	signed, err := c.signedURL(ctx)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, signed, nil)
	if err != nil {
		return "", fmt.Errorf("the gateway signed a request that cannot be sent: %w", err)
	}
	req.Header.Set("Range", "bytes=0-0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", unreachable(ctx, "the store", origin(signed), err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable: // the last: an empty object
		return origin(signed) + " takes signed requests", nil
	case http.StatusNotFound: // deleted since; the signature was checked before that was said
		return origin(signed) + " takes signed requests; the result itself is gone", nil
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // of an error answer, what came is enough
	return "", fmt.Errorf("%s answered %s: %s", origin(signed), resp.Status, strings.Join(strings.Fields(string(b)), " "))
}

// signedURL finds a download URL among the newest results.
func (c *client) signedURL(ctx context.Context) (string, error) {
	var page struct{ Tasks []taskView }
	if _, err := c.get(ctx, "/v1/tasks?limit=200&status="+string(functions.Succeeded), &page); err != nil {
		return "", err
	}
	for _, t := range page.Tasks {
		if len(t.Outputs) == 0 {
			continue
		}
		var full taskView
		if _, err := c.get(ctx, taskPath(string(t.ID)), &full); err != nil {
			return "", err
		}
		for _, o := range full.Outputs {
			if o.DownloadURL != "" {
				return o.DownloadURL, nil
			}
		}
	}
	return "", skip("no task has made an output file yet to try it on")
}
