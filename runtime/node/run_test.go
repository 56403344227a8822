package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/runtimetest"
)

func TestATaskFromInputToOutput(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var seen struct {
			stdin, envelope, input string
			readOnly               bool
		}
		w.fake.Add("work", program(func(ctx context.Context, p *runtimetest.Process) int {
			buf := make([]byte, 100)
			k, _ := p.Stdin.Read(buf)
			seen.stdin = string(buf[:k])
			for file, to := range map[string]*string{eventFile: &seen.envelope, p.Args[1]: &seen.input} {
				path, err := p.Path(file)
				if err != nil {
					t.Error(err)
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
				}
				*to = string(data)
			}
			info, err := os.Stat(filepath.Join(p.Spec.Mounts[1].Source, "cat.png"))
			seen.readOnly = err == nil && info.Mode().Perm() == 0o444
			fmt.Fprintln(p.Stdout, "[50%] half way")
			time.Sleep(2 * time.Second)
			path, _ := p.Path("/task/out/sub")
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Error(err)
			}
			mustWrite(t, p, "/task/out/a.json", `{}`)
			mustWrite(t, p, "/task/out/sub/b.txt", "text")
			mustWrite(t, p, "/task/out/empty", "")
			mustWrite(t, p, "/task/result.json", ` {"n": 1} `)
			fmt.Fprintln(p.Stderr, "done")
			return 0
		}))
		a := w.agent(w.config())
		as := w.order(a)
		as.Function.Image, as.Function.Command = "work", []string{"/work", "{in.cat.png}"}
		ref := w.store.add("in/cat.png", "miaow")
		ref.ContentType = "image/png"
		as.Task.Inputs = []functions.Input{{Name: "cat.png", ObjectRef: ref}, {Name: "zero", ObjectRef: w.store.add("in/zero", "")}}
		as.Task.Params = json.RawMessage(`{"p":2}`)
		out := w.do(a, as)
		wantClass(t, out, "", "")

		if seen.stdin != `{"x":1}` || seen.input != "miaow" || !seen.readOnly {
			t.Errorf("the container saw %+v", seen)
		}
		want := `{"task":"` + string(as.Task.ID) + `","function":"f","attempt":1,"event":{"x":1},"inputs":[` +
			`{"name":"cat.png","path":"/task/in/cat.png","bucket":"uploads","key":"in/cat.png","size":5,"contentType":"image/png"},` +
			`{"name":"zero","path":"/task/in/zero","bucket":"uploads","key":"in/zero","size":0}],"params":{"p":2}}`
		if seen.envelope != want {
			t.Errorf("event.json\n got %s\nwant %s", seen.envelope, want)
		}
		if string(out.Result) != `{"n":1}` {
			t.Errorf("result %s", out.Result)
		}
		if got := outputNames(out); !slices.Equal(got, []string{"a.json", "empty", "sub/b.txt"}) {
			t.Errorf("outputs %v", got)
		}
		if text, _ := w.store.get("results/" + string(as.Task.ID) + "/1/sub/b.txt"); text != "text" {
			t.Errorf("sub/b.txt = %q", text)
		}
		if got := w.store.types["results/"+string(as.Task.ID)+"/1/a.json"]; got != "application/json" {
			t.Errorf("a.json has type %q", got)
		}
		if out.LogTail != "[50%] half way\ndone\n" || len(logText(t, w, out)) != 2 {
			t.Errorf("log tail %q, lines %+v", out.LogTail, logText(t, w, out))
		}
		var phases []functions.Phase
		for _, s := range out.Phases {
			phases = append(phases, s.Phase)
		}
		if !slices.Equal(phases, []functions.Phase{functions.PhaseStage, functions.PhasePull, functions.PhaseLaunch, functions.PhaseRun, functions.PhaseCollect}) {
			t.Errorf("phases %v", phases)
		}
		if run := out.Phases[3].MS; run != 2000 {
			t.Errorf("run took %v ms, want 2000", run)
		}
		w.nothingLeft()
		if !slices.ContainsFunc(w.log.progress, func(p functions.Progress) bool { return p.Fraction == 0.5 && p.Message == "half way" }) {
			t.Errorf("no progress in %+v", w.log.progress)
		}
		told := func(p functions.Phase) bool {
			return slices.ContainsFunc(w.log.progress, func(q functions.Progress) bool { return q.Phase == p && q.Message == "" })
		}
		if !told(functions.PhaseRun) || told(functions.PhaseStage) {
			t.Errorf("told of %+v; a phase is told when it lasts, and only then", w.log.progress)
		}
		if len(w.log.lines) != 2 || w.log.lines[0].N != 1 || w.log.lines[0].Stream != "stdout" {
			t.Errorf("live lines %+v", w.log.lines)
		}
	})
}

// Every way in which a function can be bad, and what it is called.
func TestBadFunctions(t *testing.T) {
	image := func(run runtimetest.Program) func(*testing.T, *world, *functions.Assignment) {
		return func(t *testing.T, w *world, as *functions.Assignment) {
			w.fake.Add("bad", run)
			as.Function.Image = "bad"
		}
	}
	box := func(args ...string) func(*testing.T, *world, *functions.Assignment) {
		return func(t *testing.T, w *world, as *functions.Assignment) {
			as.Function.Command = append([]string{"/box"}, args...)
		}
	}
	out := func(p *runtimetest.Process, name string) string {
		path, err := p.Path("/task/out")
		if err != nil {
			return err.Error()
		}
		return filepath.Join(path, name)
	}
	for name, c := range map[string]struct {
		make  func(*testing.T, *world, *functions.Assignment)
		class functions.Class
		phase functions.Phase
		check func(*testing.T, *world, functions.Outcome)
	}{
		"ends with code 3": {make: box("fail", "3", "cannot", "open"), class: functions.ExitError, phase: functions.PhaseRun,
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if o.ExitCode != 3 || o.Failure.ExitCode != 3 || o.Failure.Message != "ended with code 3: cannot open" {
					t.Errorf("%+v", o.Failure)
				}
			}},
		"asks to be tried again":   {make: box("exit", "75"), class: functions.TempFail, phase: functions.PhaseRun},
		"refuses its input":        {make: box("exit", "65"), class: functions.Permanent, phase: functions.PhaseRun},
		"program is not there":     {make: func(t *testing.T, w *world, as *functions.Assignment) { as.Function.Command = []string{"/nope"} }, class: functions.BadEntry, phase: functions.PhaseRun},
		"uses too much memory":     {make: box("alloc", "65"), class: functions.OutOfMemory, phase: functions.PhaseRun},
		"dies of a signal":         {make: box("signal", "11"), class: functions.Crashed, phase: functions.PhaseRun},
		"image is not there":       {make: func(t *testing.T, w *world, as *functions.Assignment) { as.Function.Image = "gone" }, class: functions.ImageMissing, phase: functions.PhasePull},
		"wants an input, has none": {make: box("cat", "{in}"), class: functions.Permanent, phase: functions.PhaseLaunch},
		"runs too long, takes SIGTERM": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			box("trap", "0")(t, w, as)
			as.Function.Timeout = functions.Duration(3 * time.Second)
		}, class: functions.TimedOutRun, phase: functions.PhaseRun,
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if ms := o.Phases[3].MS; ms != 3000 {
					t.Errorf("ran %v ms, limit 3000", ms)
				}
			}},
		"runs too long, deaf to SIGTERM": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			box("deaf")(t, w, as)
			as.Function.Timeout, as.Function.Grace = functions.Duration(3*time.Second), functions.Duration(2*time.Second)
		}, class: functions.TimedOutRun, phase: functions.PhaseRun,
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if ms := o.Phases[3].MS; ms != 5000 {
					t.Errorf("ran %v ms, limit 3000 and grace 2000", ms)
				}
			}},
		"floods the disk": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			dir, err := p.Path("/tmp")
			for i := 0; err == nil && ctx.Err() == nil; i++ {
				err = os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), make([]byte, 1<<20), 0o644)
				time.Sleep(10 * time.Millisecond)
			}
			// A kill may find this goroutine on its way into a write, and its folder gone.
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			return 0
		}), class: functions.DiskExceeded, phase: functions.PhaseRun},
		"floods the disk and ends quickly": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/big", strings.Repeat("x", 5<<20))
			return 0
		}), class: functions.DiskExceeded, phase: functions.PhaseCollect},
		"leaves a file with a hole": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/hole", "")
			if err := os.Truncate(out(p, "hole"), 1<<40); err != nil {
				t.Error(err)
			}
			return 0
		}), class: functions.DiskExceeded, phase: functions.PhaseCollect},
		"floods its log": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			for i := range 200 {
				fmt.Fprintf(p.Stdout, "%d %s\n", i, strings.Repeat("x", 10_000))
			}
			return 0
		}),
			check: func(t *testing.T, w *world, o functions.Outcome) {
				lines := logText(t, w, o)
				first, last := lines[0], lines[len(lines)-1]
				if o.Log.Size > 110_000 || o.Log.Size < 50_000 || first.N != 1 || last.N != 200 || !strings.HasPrefix(last.Text, "199 ") {
					t.Errorf("log of %d bytes from line %d to %d", o.Log.Size, first.N, last.N)
				}
				gap := slices.IndexFunc(lines, func(l functions.LogLine) bool { return l.Stream == "system" })
				if gap < 0 || !strings.Contains(lines[gap].Text, "lines were dropped") {
					t.Errorf("no line tells of the gap")
				}
				if len(o.LogTail) > int(tailKept) {
					t.Errorf("tail of %d bytes", len(o.LogTail))
				}
			}},
		"writes one endless line": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			fmt.Fprint(p.Stderr, strings.Repeat("y", 30_000))
			return 1
		}), class: functions.ExitError, phase: functions.PhaseRun,
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if len(o.Failure.Message) > 400 {
					t.Errorf("message of %d bytes", len(o.Failure.Message))
				}
			}},
		"result.json is cut off": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/result.json", `{"a":`)
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"result.json is empty": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/result.json", "")
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"result.json is over 1 MiB": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/result.json", `"`+strings.Repeat("x", 1<<20)+`"`)
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"result.json is a link to a secret": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/x", "x")
			if err := os.Symlink("/etc/passwd", filepath.Join(filepath.Dir(out(p, "")), "result.json")); err != nil {
				t.Error(err)
			}
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"says why it failed": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/result.json", `{"error":{"type":"BadInput","message":"no audio track","retryable":false}}`)
			return 1
		}), class: functions.Permanent, phase: functions.PhaseRun,
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if o.Failure.Type != "BadInput" || o.Failure.Message != "no audio track" || o.Result != nil {
					t.Errorf("%+v", o.Failure)
				}
			}},
		"leaves links and pipes": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/good", "good")
			for name, target := range map[string]string{"abs": "/etc/passwd", "up": "../../assignment.json", "dir": "/etc", "loop": "loop"} {
				if err := os.Symlink(target, out(p, name)); err != nil {
					t.Error(err)
				}
			}
			return 0
		}),
			check: func(t *testing.T, w *world, o functions.Outcome) {
				if got := outputNames(o); !slices.Equal(got, []string{"good"}) {
					t.Errorf("outputs %v", got)
				}
				if !strings.Contains(o.LogTail, "4 entries") {
					t.Errorf("the log does not tell: %q", o.LogTail)
				}
			}},
		"puts a link in place of its output folder": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			if err := os.Remove(out(p, "")); err != nil {
				t.Error(err)
			}
			if err := os.Symlink("/etc", strings.TrimSuffix(out(p, ""), "/")); err != nil {
				t.Error(err)
			}
			return 0
		}), check: func(t *testing.T, w *world, o functions.Outcome) {
			if len(o.Outputs) > 0 {
				t.Errorf("outputs %v", outputNames(o))
			}
		}},
		"leaves a name that nobody can write": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/a\nb", "x")
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"leaves 10,001 files": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			for i := range 10_001 {
				mustWrite(t, p, fmt.Sprintf("/task/out/%d", i), "")
			}
			return 0
		}), class: functions.BadOutput, phase: functions.PhaseCollect},
		"leaves 2,000 files": {make: image(func(ctx context.Context, p *runtimetest.Process) int {
			for i := range 2_000 {
				mustWrite(t, p, fmt.Sprintf("/task/out/%04d", i), "")
			}
			return 0
		}), check: func(t *testing.T, w *world, o functions.Outcome) {
			last := o.Outputs[len(o.Outputs)-1]
			if len(o.Outputs) > 1000 || last.Name != manifest {
				t.Fatalf("%d outputs, the last is %s", len(o.Outputs), last.Name)
			}
			var all []functions.Output
			text, _ := w.store.get("results/" + last.Key)
			if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 2000 {
				t.Errorf("the manifest has %d outputs, %v", len(all), err)
			}
		}},
		"prints that CUDA is out of memory, on a CPU": {make: box("fail", "1", "CUDA out of memory"), class: functions.ExitError, phase: functions.PhaseRun},
		"input is gone": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: functions.ObjectRef{Bucket: "uploads", Key: "no"}}}
		}, class: functions.InputGone, phase: functions.PhaseStage},
		"input was replaced": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			ref := w.store.add("x", "new")
			ref.ETag = etag([]byte("old"))
			as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: ref}}
		}, class: functions.InputGone, phase: functions.PhaseStage},
		"input has another hash": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			ref := w.store.add("x", "new")
			ref.SHA256 = strings.Repeat("0", 64)
			as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: ref}}
		}, class: functions.InputGone, phase: functions.PhaseStage},
		"store is down for staging": {make: func(t *testing.T, w *world, as *functions.Assignment) {
			as.Task.Inputs = []functions.Input{{Name: "x", ObjectRef: w.store.add("x", "x")}}
			w.store.setDown(true)
		}, class: functions.Store, phase: functions.PhaseStage},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a := w.agent(w.config())
				as := w.order(a, "echo", "hello")
				as.Function.Limits.Log = 100_000
				c.make(t, w, &as)
				o := w.do(a, as)
				wantClass(t, o, c.class, c.phase)
				if c.class != "" && len(o.Outputs) > 0 {
					t.Errorf("a failed attempt has outputs")
				}
				if c.check != nil {
					c.check(t, w, o)
				}
				w.nothingLeft()
			})
		})
	}
}

func TestOutputsOfAFailureAreKeptOnRequestOnly(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fake.Add("bad", program(func(ctx context.Context, p *runtimetest.Process) int {
			mustWrite(t, p, "/task/out/core", "dump")
			return 2
		}))
		a := w.agent(w.config())
		as := w.order(a)
		as.Function.Image, as.Function.KeepFailed = "bad", true
		out := w.do(a, as)
		wantClass(t, out, functions.ExitError, functions.PhaseRun)
		if got := outputNames(out); !slices.Equal(got, []string{"core"}) {
			t.Errorf("outputs %v", got)
		}
	})
}

func TestStandardOutputAsResult(t *testing.T) {
	for name, c := range map[string]struct {
		write, result, text string
		ref                 string
		class               functions.Class
	}{
		"JSON":       {write: `{"a": 1}` + "\n", result: `{"a":1}`},
		"text":       {write: "hello\n", text: "hello\n"},
		"large JSON": {write: `"` + strings.Repeat("x", 300<<10) + `"`, ref: "/1.result.json"},
		"large text": {write: strings.Repeat("x", 300<<10), ref: "/1.result"},
		"bytes":      {write: "\xff\xfe", ref: "/1.result"},
		"over 1 MiB": {write: strings.Repeat("x", 1<<20+1), class: functions.BadOutput},
		"just 1 MiB": {write: strings.Repeat("x", 1<<20), ref: "/1.result"},
		"nothing":    {text: ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.fake.Add("say", program(func(ctx context.Context, p *runtimetest.Process) int {
					fmt.Fprint(p.Stdout, c.write)
					fmt.Fprintln(p.Stderr, "log")
					return 0
				}))
				a := w.agent(w.config())
				as := w.order(a)
				as.Function.Image, as.Function.Stdout = "say", functions.StdoutResult
				out := w.do(a, as)
				wantClass(t, out, c.class, functions.PhaseCollect)
				if out.LogTail != "log\n" {
					t.Errorf("log %q", out.LogTail)
				}
				if c.class != "" {
					return
				}
				if string(out.Result) != c.result {
					t.Errorf("result %.50s", out.Result)
				}
				if c.ref != "" {
					if out.ResultRef == nil || out.ResultRef.Key != string(as.Task.ID)+c.ref {
						t.Fatalf("result ref %+v", out.ResultRef)
					}
					if text, _ := w.store.get("results/" + out.ResultRef.Key); text != c.write {
						t.Error("the stored result is not what was written")
					}
				} else if c.result == "" && (out.ResultText == nil || *out.ResultText != c.text) {
					t.Errorf("result text %v", out.ResultText)
				}
			})
		})
	}
}

func TestEventAsObject(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		as := w.order(a, "cat")
		ref := w.store.add("ev/1", `{"big":true}`)
		as.Task.Event, as.Task.EventRef = nil, &ref
		as.Function.Stdout = functions.StdoutResult
		if out := w.do(a, as); string(out.Result) != `{"big":true}` {
			t.Errorf("stdin was %s", out.Result)
		}
	})
}

func TestCancel(t *testing.T) {
	for name, c := range map[string]struct {
		verb string
		why  functions.Class
		want functions.Class
		ms   float64
	}{
		"of a program that listens":     {"trap", functions.CanceledByUser, functions.CanceledByUser, 1000},
		"of a program that does not":    {"deaf", functions.CanceledByUser, functions.CanceledByUser, 11_000},
		"by a leader that has moved on": {"deaf", functions.NodeLost, functions.NodeLost, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a := w.agent(w.config())
				as := w.order(a, c.verb, "0")
				a.admit(as)
				w.until("it runs", func() bool { return w.log.heard() > 0 })
				var began time.Time
				w.log.set(func(l *memLog) { began = l.lines[0].Time })
				time.Sleep(time.Until(began.Add(time.Second)))
				if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1, Why: c.why}); err != nil {
					t.Fatal(err)
				}
				out := w.fin(as)
				wantClass(t, out, c.want, functions.PhaseRun)
				if ms := out.Phases[3].MS; ms != c.ms {
					t.Errorf("ran %v ms, want %v", ms, c.ms)
				}
				if out.Log == nil {
					t.Error("the log of a canceled attempt is lost")
				}
				w.nothingLeft()
				if err := a.Kill(context.Background(), functions.Kill{Task: as.Task.ID, Attempt: 1}); err == nil {
					t.Error("Kill of what is gone succeeded")
				}
			})
		})
	}
}

func TestStoreDownForCollect(t *testing.T) {
	for name, c := range map[string]struct {
		down  time.Duration
		class functions.Class
	}{
		"for a minute":    {time.Minute, ""},
		"for ten minutes": {10 * time.Minute, functions.Store},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.fake.Add("work", program(func(ctx context.Context, p *runtimetest.Process) int {
					mustWrite(t, p, "/task/out/a", "a")
					w.store.setDown(true)
					time.AfterFunc(c.down, func() { w.store.setDown(false) })
					return 0
				}))
				a := w.agent(w.config())
				as := w.order(a)
				as.Function.Image = "work"
				wantClass(t, w.do(a, as), c.class, functions.PhaseCollect)
				w.nothingLeft()
				time.Sleep(c.down) // the timer ends within the bubble
			})
		})
	}
}

func TestLogDownAtFinish(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.agent(w.config())
		w.log.set(func(l *memLog) { l.down = true })
		as := w.order(a, "echo", "x")
		a.admit(as)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if hb := w.log.lastBeat(); len(hb.Running) != 1 || hb.Running[0].Task != as.Task.ID {
			t.Errorf("an attempt that is not in the log yet is not in the heartbeat: %+v", hb.Running)
		}
		if len(w.fake.Specs()) != 1 {
			t.Error("its container is gone")
		}
		w.log.set(func(l *memLog) { l.down = false })
		wantClass(t, w.fin(as), "", "")
		w.nothingLeft()
	})
}

func TestEngineDownWhileAContainerRuns(t *testing.T) {
	for name, c := range map[string]struct {
		down  time.Duration
		code  int // of the container
		class functions.Class
	}{
		"for a minute":    {time.Minute, 0, ""},
		"for ten minutes": {10 * time.Minute, 0, functions.Infra},
		"and ends it by SIGTERM when it comes back": {time.Minute, terminated, functions.Infra},
		"and ends it by SIGKILL when it comes back": {time.Minute, killed, functions.Infra},
		"and the program crashes by itself":         {time.Minute, 128 + 11, functions.Crashed},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				cfg := w.config()
				flaky := &flakyDriver{Fake: w.fake, cut: make(chan struct{})}
				cfg.Driver = flaky
				a := w.agent(cfg)
				w.fake.Add("work", program(func(context.Context, *runtimetest.Process) int {
					time.Sleep(90 * time.Second) // fake clock
					return c.code
				}))
				as := w.order(a)
				as.Function.Image = "work"
				as.Function.Timeout = functions.Duration(5 * time.Minute)
				a.admit(as)
				w.until("it runs", func() bool { return flaky.waits.Load() > 0 })
				w.fake.SetDown(true)
				close(flaky.cut)
				time.Sleep(10 * time.Second)
				if hb := w.log.lastBeat(); hb.Node.Ready || !strings.Contains(hb.Node.Reason, "unreachable") {
					t.Errorf("heartbeat with the engine down: ready %v, %q", hb.Node.Ready, hb.Node.Reason)
				}
				if err := a.Admit(context.Background(), w.order(a)); err == nil {
					t.Error("a node without engine admits")
				}
				time.Sleep(c.down)
				w.fake.SetDown(false)
				out := w.fin(as)
				if c.class == "" {
					wantClass(t, out, "", "")
				} else if out.Failure == nil || out.Failure.Class != c.class {
					t.Errorf("failure %+v, want %s", out.Failure, c.class)
				}
				w.nothingLeft()
			})
		})
	}
}
