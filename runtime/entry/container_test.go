package entry_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/entry"
	"github.com/spillway/spillway/runtime/entry/wire"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// TestInContainers shows what an entry program does in a container without a
// network, rights or a writable root.
func TestInContainers(t *testing.T) {
	w := open(t)
	for _, c := range []struct {
		sentence string
		test     func(*testing.T, *world)
	}{
		{"it runs its orders and reports", testReport},
		{"a program that is not there is 127, one that cannot be run 126", testMissing},
		{"the environment of the orders wins over the container's", testEnvironment},
		{"much input and output comes whole", testBulk},
		{"exec replaces the entry program", testExec},
		{"the agent serves a port in the container", testListener},
		{"the agent connects to a server in the container", testDial},
		{"signals reach the command", testSignals},
		{"a signal's death is 128 and its number", testKilled},
		{"orphans are reaped", testOrphans},
		{"a child that holds the output holds up no report", testLeftBehind},
		{"the command cannot reach the agent", testSteal},
		{"without its agent it does not wait for orders", testAgentGoneBefore},
		{"without its agent the command runs on", testAgentGoneAfter},
		{"an entry program that is killed has no report", testEntryKilled},
	} {
		t.Run(c.sentence, func(t *testing.T) { c.test(t, w) })
	}
}

func testReport(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	if c.session.Listener(wire.NameAPI) != nil {
		t.Error("a listener that was not asked for")
	}
	report, stdout, stderr := c.run(t, argv("/box", "fail", "3", "some", "words"), nil)
	if report.Exit != 3 || report.Signal != 0 || report.Error != "" || stdout != "" || stderr != "some words\n" {
		t.Errorf("%+v, %q, %q", report, stdout, stderr)
	}
	if report.MaxRSS < 100<<10 || report.UserUS+report.SystemUS <= 0 {
		t.Errorf("what it used is missing: %+v", report)
	}
	if exit := c.exit(t); exit.Code != 3 {
		t.Errorf("the container exited with %d", exit.Code)
	}
	if c.stderr.String() != "some words\n" {
		t.Errorf("the engine has %q", c.stderr.String())
	}
	select {
	case <-c.session.Done():
	case <-within(t).Done():
		t.Error("the entry program has not gone")
	}
	if err := c.session.Start(argv("/box"), runtime.Streams{}); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("a second Start: %v, want a conflict", err)
	}
	if err := c.session.Signal(syscall.SIGTERM); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("a signal for nobody: %v, want unavailable", err)
	}
}

func testMissing(t *testing.T, w *world) {
	for _, row := range []struct {
		orders wire.Orders
		code   int
		words  string
	}{
		{argv("nothing"), wire.ExitMissing, `exec: "nothing": executable file not found in $PATH`},
		{argv("/nothing"), wire.ExitMissing, `exec: "/nothing": no such file or directory`},
		{wire.Orders{Argv: []string{"/nothing"}, Exec: true}, wire.ExitMissing, `exec: "/nothing": no such file or directory`},
		{argv("/proc/cpuinfo"), wire.ExitNoExec, `exec: "/proc/cpuinfo": permission denied`},
		{wire.Orders{Argv: []string{"box"}, Dir: "/nowhere"}, wire.ExitNoExec, `chdir to cwd ("/nowhere"): no such file or directory`},
	} {
		c := w.hold(t, entry.Options{})
		report, _, _ := c.run(t, row.orders, nil)
		if report.Exit != row.code || report.Error != row.words {
			t.Errorf("%v: %+v", row.orders.Argv, report)
		}
		if exit := c.exit(t); exit.Code != row.code || !strings.Contains(c.stderr.String(), row.words) {
			t.Errorf("%v: the container exited with %d and said %q", row.orders.Argv, exit.Code, c.stderr.String())
		}
	}
}

func testEnvironment(t *testing.T, w *world) {
	for name, want := range map[string]string{"BOX": "image\n", "FROM": "spec\n", "OVER": "orders\n", "NEW": "a=b\n"} {
		c := w.hold(t, entry.Options{})
		orders := wire.Orders{Argv: []string{"box", "env", name}, Env: []string{"OVER=orders", "NEW=a=b"}, Dir: "/proc"}
		if report, stdout, _ := c.run(t, orders, nil); report.Exit != 0 || stdout != want {
			t.Errorf("%s: %q, %+v, want %q", name, stdout, report, want)
		}
	}
}

func testBulk(t *testing.T, w *world) {
	for _, size := range []int{100 << 10, 5 << 20} {
		c := w.hold(t, entry.Options{})
		report, stdout, stderr := c.run(t, argv("/probe", "write", fmt.Sprint(size)), nil)
		if report.Exit != 0 || len(stdout) != size || len(stderr) != size/2 {
			t.Errorf("of %d bytes came %d and %d: %+v", size, len(stdout), len(stderr), report)
		}
		if stdout != strings.Repeat("0123456789abcde\n", size/16) {
			t.Error("the output is not what was written")
		}
		c.exit(t)
		if c.stdout.String() != stdout || c.stderr.String() != stderr {
			t.Errorf("the engine has %d and %d bytes", len(c.stdout.String()), len(c.stderr.String()))
		}
	}
	stdin := bytes.Repeat([]byte("1234567\n"), 1<<17)
	if report, stdout, _ := w.hold(t, entry.Options{}).run(t, argv("/box", "cat"), stdin); report.Exit != 0 || stdout != string(stdin) {
		t.Errorf("of %d bytes of input came %d back: %+v", len(stdin), len(stdout), report)
	}
	if report, stdout, _ := w.hold(t, entry.Options{}).run(t, argv("/box", "echo", "deaf"), stdin); report.Exit != 0 || stdout != "deaf\n" {
		t.Errorf("a command that reads no input: %q, %+v", stdout, report)
	}
}

func testExec(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{API: true, Conns: 2})
	report, stdout, _ := c.run(t, wire.Orders{Argv: []string{"probe", "descriptors"}, Env: []string{"OVER=orders"}, Exec: true}, nil)
	if report != (wire.Report{}) || stdout != "" {
		t.Errorf("%+v, %q: the engine alone is to tell", report, stdout)
	}
	if exit := c.exit(t); exit.Code != 0 {
		t.Errorf("exit %d: %s", exit.Code, c.stderr.String())
	}
	// Three streams, and the one with which the probe reads its own status.
	if got := c.stdout.String(); strings.Count(got, "socket") != 0 || !strings.Contains(got, "0 pipe\n1 pipe\n2 pipe\n") || !strings.Contains(got, "ignored 0000000000000000") {
		t.Errorf("it inherited more than its streams:\n%s", got)
	}
}

func testListener(t *testing.T, w *world) {
	for _, exec := range []bool{false, true} {
		c := w.hold(t, entry.Options{API: true, S3: true})
		for name, port := range map[string]int{wire.NameAPI: wire.PortAPI, wire.NameS3: wire.PortS3} {
			l := c.session.Listener(name)
			if l == nil || !strings.HasSuffix(l.Addr().String(), fmt.Sprint(":", port)) {
				t.Fatalf("the listener %s is %v", name, l)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintln(w, name, "says", r.URL.Path)
			})}
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			t.Cleanup(func() { server.Close(); <-served })
		}
		orders := wire.Orders{Argv: []string{"/probe", "get", "http://127.0.0.1:9001/a"}, Exec: exec}
		c.run(t, orders, nil)
		if exit := c.exit(t); exit.Code != 0 || c.stdout.String() != "api says /a\n" {
			t.Errorf("exec=%v: %d, %q, %q", exec, exit.Code, c.stdout.String(), c.stderr.String())
		}
	}
}

func testDial(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{Conns: 2})
	if _, err := c.session.Dial(within(t), 8080); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("nobody listens: %v, want unavailable", err)
	}
	var stdout runtimetest.Pane
	if err := c.session.Start(argv("/probe", "serve", "8080"), runtime.Streams{Stdout: &stdout}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "the server listens", func() bool { return stdout.String() == "serving\n" })
	for round := range 5 { // with two sockets, so that each is used again
		conn, err := c.session.Dial(within(t), 8080)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		fmt.Fprintln(conn, "round", round)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if want := fmt.Sprintf("ROUND %d\n", round); line != want || err != nil {
			t.Fatalf("it answered %q, %v, want %q", line, err, want)
		}
		if err := conn.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	one, err1 := c.session.Dial(within(t), 8080)
	two, err2 := c.session.Dial(within(t), 8080)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.session.Dial(short, 8080); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third of two connections: %v, want it to wait", err)
	}
	freed := make(chan error, 1)
	go func() {
		three, err := c.session.Dial(within(t), 8080)
		if err == nil {
			err = three.Close()
		}
		freed <- err
	}()
	one.Close()
	if err := <-freed; err != nil {
		t.Errorf("a connection after one was closed: %v", err)
	}
	if err := c.session.Close(); err != nil {
		t.Error(err)
	}
	if n, err := two.Read(make([]byte, 1)); err == nil {
		t.Errorf("a connection outlived its session: %d bytes", n)
	}
	two.Close()
	if _, err := c.session.Dial(within(t), 8080); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Dial of a closed session: %v, want unavailable", err)
	}
}

func testSignals(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	var stdout runtimetest.Pane
	// The input fills the pipe: signals must not queue behind it.
	streams := runtime.Streams{Stdin: make([]byte, 4<<20), Stdout: &stdout}
	if err := c.session.Start(argv("/probe", "caught"), streams); err != nil {
		t.Fatal(err)
	}
	want := "ready\n"
	runtimetest.Until(t, "it is ready", func() bool { return stdout.String() == want })
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT} {
		if err := c.session.Signal(s); err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintln("caught", int(s))
		runtimetest.Until(t, s.String(), func() bool { return stdout.String() == want })
	}
	// SIGTERM comes as it does from every engine.
	if err := c.driver.Stop(within(t), c.id, time.Minute); err != nil {
		t.Fatal(err)
	}
	report, err := c.session.Wait(within(t))
	if err != nil || report.Exit != 0 || stdout.String() != want+"caught 15\n" {
		t.Errorf("%+v, %v, %q", report, err, stdout.String())
	}
}

func testKilled(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	var stdout runtimetest.Pane
	if err := c.session.Start(argv("/box", "deaf"), runtime.Streams{Stdout: &stdout}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "it is ready", func() bool { return stdout.String() == "ready\n" })
	if err := c.session.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	report, err := c.session.Wait(within(t))
	if err != nil || report.Exit != 137 || report.Signal != 9 {
		t.Errorf("%+v, %v", report, err)
	}
	if exit := c.exit(t); exit.Code != 137 {
		t.Errorf("the container exited with %d", exit.Code)
	}
}

func testOrphans(t *testing.T, w *world) {
	if report, stdout, stderr := w.hold(t, entry.Options{}).run(t, argv("/probe", "orphans", "5"), nil); report.Exit != 0 || stdout != "none left\n" {
		t.Errorf("%+v, %q, %q", report, stdout, stderr)
	}
}

func testLeftBehind(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	if report, stdout, stderr := c.run(t, argv("/probe", "leave"), nil); report.Exit != 0 || stdout != "left\n" {
		t.Errorf("%+v, %q, %q", report, stdout, stderr)
	}
	if exit := c.exit(t); exit.Code != 0 {
		t.Errorf("the container exited with %d", exit.Code)
	}
}

func testSteal(t *testing.T, w *world) {
	if report, stdout, stderr := w.hold(t, entry.Options{API: true}).run(t, argv("/probe", "steal"), nil); report.Exit != 0 || stdout != "tried\n" {
		t.Errorf("%+v, %q, %q", report, stdout, stderr)
	}
}

func testAgentGoneBefore(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{API: true, Conns: 3})
	if err := c.session.Close(); err != nil {
		t.Fatal(err)
	}
	if exit := c.exit(t); exit.Code != wire.ExitFault || !strings.Contains(c.stderr.String(), "agent went away") {
		t.Errorf("it exited with %d and said %q", exit.Code, c.stderr.String())
	}
}

func testAgentGoneAfter(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	var stdout runtimetest.Pane
	if err := c.session.Start(argv("/probe", "lines", "20", "20ms"), runtime.Streams{Stdout: &stdout}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "the first line", func() bool { return stdout.String() != "" })
	if err := c.session.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.session.Wait(within(t)); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Wait of a closed session: %v, want unavailable", err)
	}
	if exit := c.exit(t); exit.Code != 0 || !strings.HasSuffix(c.stdout.String(), "line 18\nline 19\n") {
		t.Errorf("it exited with %d and said %q", exit.Code, c.stdout.String())
	}
	var again runtimetest.Pane // and for a later agent the engine has it all
	if err := c.driver.Attach(within(t), c.id, runtime.Streams{Stdout: &again}); err != nil {
		t.Fatal(err)
	}
	runtimetest.Until(t, "all of the output", func() bool { return again.String() == c.stdout.String() })
}

func testEntryKilled(t *testing.T, w *world) {
	c := w.hold(t, entry.Options{})
	if err := c.session.Start(argv("/box", "wait"), runtime.Streams{Stdout: io.Discard}); err != nil {
		t.Fatal(err)
	}
	if err := c.driver.Stop(within(t), c.id, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.session.Wait(within(t)); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("Wait: %v, want unavailable", err)
	}
	<-c.session.Done()
}
