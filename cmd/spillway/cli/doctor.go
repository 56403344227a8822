package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Check is one thing that must hold on this machine. Run returns what was found.
type Check struct {
	Name string
	Fix  string // what to do when it fails
	Run  func(ctx context.Context) (found string, err error)
}

// result is one line of the doctor's report.
type result struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Fix    string `json:"fix,omitempty"`
	Millis int64  `json:"ms"`
}

// maxSkew is how far this clock may be from the gateway's: presigned URLs are
// refused beyond 15 minutes, and log times mislead long before.
const maxSkew = 30 * time.Second

func doctorCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and the gateway; each failure says how to fix it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			checks := append(append([]Check(nil), app.Checks...), gatewayChecks(c)...)
			var results []result
			failed := 0
			for _, ch := range checks {
				ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
				start := time.Now()
				found, err := ch.Run(ctx)
				cancel()
				r := result{Check: ch.Name, OK: err == nil, Found: found, Millis: time.Since(start).Milliseconds()}
				if err != nil {
					failed++
					r.Found, r.Fix = err.Error(), ch.Fix
				}
				results = append(results, r)
			}
			if err := printResults(app.Out, f.output, results); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d checks failed", failed, len(results))
			}
			return nil
		},
	}
}

func printResults(w io.Writer, format string, results []result) error {
	raw, err := json.Marshal(results)
	if err != nil {
		return err
	}
	out := list{raw: raw, headers: []string{"CHECK", "STATE", "FOUND", "FIX"}}
	for _, r := range results {
		state := "ok"
		if !r.OK {
			state = "FAILED"
		}
		out.names = append(out.names, r.Check)
		out.rows = append(out.rows, []string{r.Check, state, clip(r.Found, 90), r.Fix})
	}
	return out.print(w, format)
}

func gatewayChecks(c *client) []Check {
	return []Check{
		{Name: "gateway answers", Fix: "start it with: spillway up", Run: func(ctx context.Context) (string, error) {
			resp, err := c.do(ctx, http.MethodGet, "/livez", nil, nil)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			return c.base, nil
		}},
		{Name: "clocks agree", Fix: "run an NTP client on both machines", Run: func(ctx context.Context) (string, error) {
			resp, err := c.do(ctx, http.MethodGet, "/livez", nil, nil)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			at, err := http.ParseTime(resp.Header.Get("Date"))
			if err != nil {
				return "", fmt.Errorf("the gateway sent no date: %w", err)
			}
			skew := time.Since(at).Abs()
			if skew > maxSkew {
				return "", fmt.Errorf("the gateway's clock differs by %s", skew.Round(time.Second))
			}
			return "within " + maxSkew.String(), nil
		}},
		{Name: "gateway is ready", Fix: "the line names the part that is not", Run: func(ctx context.Context) (string, error) {
			resp, err := c.do(ctx, http.MethodGet, "/readyz?verbose=1", nil, nil)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
			return strings.Join(strings.Fields(string(b)), " "), err
		}},
		{Name: "a node is ready", Fix: "start one with: spillway node, and read its reason with: spillway nodes", Run: func(ctx context.Context) (string, error) {
			var page struct {
				Nodes []struct {
					ID           string
					Alive, Ready bool
				}
			}
			if _, err := c.get(ctx, "/v1/nodes", &page); err != nil {
				return "", err
			}
			ready := 0
			for _, n := range page.Nodes {
				if n.Alive && n.Ready {
					ready++
				}
			}
			if ready == 0 {
				return "", errors.New("no node is alive and ready")
			}
			return fmt.Sprintf("%d of %d", ready, len(page.Nodes)), nil
		}},
	}
}
