package node

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// An input that changes or goes between the event that names it and its staging
// ends the task once and for good, whatever store it is in.
func TestInputsThatGoOnRealStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*objects.Store, Local){
		"embedded, on this machine": func(t *testing.T) (*objects.Store, Local) {
			root := t.TempDir()
			return objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root}).New(t), &embedded.Local{Root: root}
		},
		"embedded, over the network": func(t *testing.T) (*objects.Store, Local) {
			return objectstest.Embedded(t, objectstest.EmbeddedOptions{}).New(t), nil
		},
		"MinIO": func(t *testing.T) (*objects.Store, Local) {
			return miniotest.Start(t, miniotest.Options{}).Store, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, local := open(t)
			for _, bucket := range []string{objects.Uploads, objects.Results} {
				if err := st.EnsureBucket(t.Context(), bucket); err != nil {
					t.Fatal(err)
				}
			}
			put := func(text string) functions.ObjectRef {
				t.Helper()
				ref, err := st.Put(t.Context(), objects.Uploads, "k", strings.NewReader(text), int64(len(text)), "")
				if err != nil {
					t.Fatal(err)
				}
				return ref
			}
			w := newWorld(t)
			w.fake.Add("box", runtimetest.Box)
			var names uint64 // of the input's file, while the task runs
			w.fake.Add("look", program(func(ctx context.Context, p *runtimetest.Process) int {
				path, err := p.Path("/task/in/x")
				if err != nil {
					return 1
				}
				info, err := os.Stat(path)
				if err != nil {
					return 1
				}
				names = links(info)
				mustWrite(t, p, "/task/out/y", strings.Repeat("y", 1<<20))
				return 0
			}))
			cfg := w.config()
			cfg.Objects, cfg.Local, cfg.Cache = st, local, functions.MiB
			a := w.agent(cfg)

			// The event may name the key alone.
			key := functions.ObjectRef{Bucket: objects.Uploads, Key: "k"}
			accepted := put("accepted")
			w.wantText(w.do(a, w.reading(a, accepted)), "accepted")
			w.wantText(w.do(a, w.reading(a, key)), "accepted")
			as := w.reading(a, accepted)
			as.Function.Image = "look"
			out := w.do(a, as)
			wantClass(t, out, "", "")
			if names != 2 { // the store's or the cache's, and the task's
				t.Errorf("the input's file has %d names", names)
			}
			if len(out.Outputs) != 1 || out.Outputs[0].Size != 1<<20 {
				t.Errorf("outputs %+v", out.Outputs)
			}

			replaced := put("replaced")
			put("the third")
			out = w.do(a, w.reading(a, replaced))
			wantClass(t, out, functions.InputGone, functions.PhaseStage)
			if want := "input x (uploads/k) has changed since the task was accepted"; out.Failure.Message != want {
				t.Errorf("message %q, want %q", out.Failure.Message, want)
			}
			if err := st.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			for _, ref := range []functions.ObjectRef{replaced, key} {
				out = w.do(a, w.reading(a, ref))
				wantClass(t, out, functions.InputGone, functions.PhaseStage)
				if want := "input x (uploads/k) no longer exists"; out.Failure.Message != want {
					t.Errorf("message %q, want %q", out.Failure.Message, want)
				}
			}
			w.log.set(func(l *memLog) {
				if l.appends != 6 {
					t.Errorf("%d ends of 6 tasks were reported", l.appends)
				}
			})
			w.nothingLeft()
		})
	}
}
