package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// answers is a gateway that knows a few answers: "METHOD /path" to status and
// body. Queries are not looked at.
type answers map[string]answer

type answer struct {
	status int
	body   string
}

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, ok := a[r.Method+" "+r.URL.Path]
	if !ok {
		http.Error(w, "nobody asked for "+r.Method+" "+r.URL.Path, http.StatusTeapot)
		return
	}
	w.WriteHeader(known.status)
	_, _ = w.Write([]byte(known.body))
}

// said is what a command left behind.
type said struct {
	out, err string
	code     int
}

// runOn runs a client command against a gateway.
func runOn(t *testing.T, gateway http.Handler, args ...string) said {
	t.Helper()
	srv := httptest.NewServer(gateway)
	defer srv.Close()
	return runAs(t, App{Getenv: func(name string) string {
		if name == "SPILLWAY_URL" {
			return srv.URL
		}
		return ""
	}}, args...)
}

func runAs(t *testing.T, app App, args ...string) said {
	t.Helper()
	var out, errOut strings.Builder
	app.Out, app.Err = &out, &errOut
	if app.In == nil {
		app.In = strings.NewReader("")
	}
	root := &cobra.Command{Use: "spillway", SilenceErrors: true, SilenceUsage: true}
	root.AddGroup(Groups()...)
	root.AddCommand(Commands(app)...)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errOut)
	err := root.ExecuteContext(context.Background())
	Explain(&errOut, err)
	return said{out.String(), errOut.String(), ExitCode(err)}
}

func TestEveryCommandHelps(t *testing.T) {
	for _, c := range Commands(App{}) {
		for _, c := range append([]*cobra.Command{c}, c.Commands()...) {
			if c.Short == "" || c.Example == "" {
				t.Errorf("%s has no short text or no example", c.CommandPath())
			}
			if c.Flag("device") != nil {
				if _, ok := c.GetFlagCompletionFunc("device"); !ok {
					t.Errorf("%s does not complete --device", c.CommandPath())
				}
			}
			if o := c.Flag("output"); o == nil || !strings.Contains(o.Usage, "json") {
				t.Errorf("%s does not explain -o json", c.CommandPath())
			}
			takesTask, takesFunction := strings.Contains(c.Use, "ID"), strings.Contains(c.Use, "FUNCTION") || strings.Contains(c.Use, "[NAME]") || strings.Contains(c.Use, "rm NAME")
			if (takesTask || takesFunction) && c.ValidArgsFunction == nil {
				t.Errorf("%s does not complete its argument", c.CommandPath())
			}
		}
	}
}
