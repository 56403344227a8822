package node

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/objectstest"
	"github.com/spillway/spillway/runtime"
)

// A container that is linked to the store's own file sees the content that was
// accepted for as long as it runs, whatever becomes of the object and of the
// agent; and it has no way to change the object.
func TestLinkedInputsOnDocker(t *testing.T) {
	d, image := realDocker(t)
	root := t.TempDir()
	st := objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root}).New(t)
	for _, bucket := range []string{objects.Uploads, objects.Results} {
		if err := st.EnsureBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, text string) functions.ObjectRef {
		t.Helper()
		ref, err := st.Put(t.Context(), objects.Uploads, key, strings.NewReader(text), int64(len(text)), "")
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	file := func(key string) string { return filepath.Join(root, "data", objects.Uploads, key) }
	unchanged := func(ref functions.ObjectRef, text string) {
		t.Helper()
		f, err := (&embedded.Local{Root: root}).Open(ref)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		got, rerr := io.ReadAll(f)
		if err != nil || rerr != nil || string(got) != text || info.Mode() != 0o644 || links(info) != 1 {
			t.Errorf("the object is %q of mode %v with %d names, %v, %v", got, info.Mode(), links(info), err, rerr)
		}
	}
	w := newWorld(t)
	cfg := w.config()
	cfg.ID = functions.NodeID("test-" + strings.ToLower(t.Name()))
	cfg.Driver, cfg.Objects, cfg.Local = d, st, &embedded.Local{Root: root}
	noneLeft(t, d, cfg.ID)
	a := w.agent(cfg)
	order := func(ref functions.ObjectRef, command ...string) functions.Assignment {
		as := w.order(a)
		as.Function.Image, as.Function.Command = image, command
		as.Function.Stdout = functions.StdoutResult
		as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: ref}}
		return as
	}
	fin := func(as functions.Assignment) functions.Outcome {
		t.Helper()
		var e functions.Event
		w.until("fin", func() (ok bool) {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			e, ok = w.log.ids["fin-"+string(as.Task.ID)+"-1"]
			return ok
		})
		return e.Fin.Outcome
	}

	t.Run("cannot be changed from inside", func(t *testing.T) {
		ref := put("safe", "precious")
		as := order(ref, "harm", "/task/in/x", "/task/out/y")
		a.admit(as)
		out := fin(as)
		if out.Failure != nil || len(out.Outputs) != 0 || strings.Count(out.LogTail, "refused") != 13 {
			t.Errorf("failure %+v, result %s, outputs %+v, log %q", out.Failure, out.Result, out.Outputs, out.LogTail)
		}
		w.until("the task's folder is gone", func() bool {
			left, err := os.ReadDir(filepath.Join(cfg.DataDir, "tasks"))
			return err == nil && len(left) == 0
		})
		unchanged(ref, "precious")
	})

	// The user of an image does not count, but what if it did: root owns the file.
	t.Run("cannot be changed by root", func(t *testing.T) {
		ref := put("safe", "precious")
		dir := t.TempDir()
		for _, sub := range []string{"in", "work"} {
			if err := makeFolder(filepath.Join(dir, sub), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		n := &Node{cfg: cfg}
		if ok, err := n.linkLocal(ref, filepath.Join(dir, "in", "x")); !ok || err != nil {
			t.Fatalf("link = %t, %v", ok, err)
		}
		var stdout, stderr strings.Builder
		id, err := d.Create(t.Context(), runtime.Spec{
			Name: "spillway-test-root-" + string(w.order(a).Task.ID), Image: image, Command: []string{"harm", "/task/in/x", "/task/y"}, User: "0:0",
			Mounts: []runtime.Mount{
				{Source: filepath.Join(dir, "work"), Target: "/task"},
				{Source: filepath.Join(dir, "in"), Target: "/task/in", ReadOnly: true},
			},
			Labels: map[string]string{runtime.LabelNode: string(cfg.ID) + "-root"},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Remove(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		})
		if err := d.Start(t.Context(), id, runtime.Streams{Stdout: &stdout, Stderr: &stderr}); err != nil {
			t.Fatal(err)
		}
		exit, err := d.Wait(t.Context(), id)
		if err != nil || exit.Code != 0 || strings.Count(stderr.String(), "refused") != 13 {
			t.Errorf("exit %+v, %v: it could %q\n%s", exit, err, stdout.String(), stderr.String())
		}
		if err := os.Remove(filepath.Join(dir, "in", "x")); err != nil {
			t.Fatal(err)
		}
		unchanged(ref, "precious")
	})

	for name, change := range map[string]func(t *testing.T, ref functions.ObjectRef){
		"overwritten meanwhile": func(t *testing.T, ref functions.ObjectRef) { put(ref.Key, "new") },
		"deleted meanwhile": func(t *testing.T, ref functions.ObjectRef) {
			if err := st.Delete(t.Context(), functions.ObjectRef{Bucket: ref.Bucket, Key: ref.Key}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ref := put("moving", "old\n")
			before, err := os.Stat(file("moving"))
			if err != nil {
				t.Fatal(err)
			}
			as := order(ref, "reread", "/task/in/x")
			as.Function.Stdout = functions.StdoutLog
			a.admit(as)
			w.until("it has read", func() bool { return w.log.heardOf(as.Task.ID) > 0 })
			inside, err := os.Stat(filepath.Join(cfg.DataDir, "tasks", string(as.Task.ID)+".1", "in", "x"))
			if err != nil || !os.SameFile(before, inside) {
				t.Errorf("the task's input is not the store's file: %v", err)
			}
			change(t, ref)
			// The next agent takes over, and stages nothing again.
			a.quit()
			a = w.agent(cfg)
			w.until("it is adopted", func() bool { return w.inPhase(functions.PhaseRun) })
			if err := a.Kill(t.Context(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err != nil {
				t.Fatal(err)
			}
			if out := fin(as); out.LogTail != "old\nold\n" {
				t.Errorf("the task read %q", out.LogTail)
			}
		})
	}
	w.until("task folders are gone", func() bool {
		left, err := os.ReadDir(filepath.Join(cfg.DataDir, "tasks"))
		return err == nil && len(left) == 0
	})
}
