package tasklog

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// node is a NodeHandler made of functions.
type node struct {
	admit func(context.Context, functions.Assignment) error
	kill  func(context.Context, functions.Kill) error
	lines []functions.LogLine
}

func (n *node) Admit(ctx context.Context, a functions.Assignment) error { return n.admit(ctx, a) }
func (n *node) Kill(ctx context.Context, k functions.Kill) error        { return n.kill(ctx, k) }
func (n *node) ReadLog(_ context.Context, _ functions.TaskID, _ int, after int64) ([]functions.LogLine, error) {
	return n.lines[min(int(after), len(n.lines)):], nil
}

func (n *node) Readmit(context.Context, string) error {
	return functions.NotFound("no_such_gpu", "the node has no GPUs")
}

// call repeats f while the node is not connected yet.
func whenConnected(t *testing.T, f func() error) error {
	t.Helper()
	var err error
	eventually(t, "the node is connected", func() bool {
		err = f()
		var e *functions.Error
		return !errors.As(err, &e) || e.Code != "no_responder"
	})
	return err
}

func TestOrdersCarryErrorClasses(t *testing.T) {
	s := startServer(t, t.TempDir())
	nodeSide, serverSide := openLog(t, s), openLog(t, s)
	var answer error
	h := &node{
		admit: func(_ context.Context, a functions.Assignment) error {
			if a.Attempt != 2 || a.Task.Function != "thumbnail" {
				t.Errorf("assignment %+v", a)
			}
			return answer
		},
		kill: func(_ context.Context, k functions.Kill) error {
			if k.Why != functions.TimedOutRun {
				t.Errorf("kill %+v", k)
			}
			return answer
		},
	}
	background(t, func(ctx context.Context) error { return nodeSide.ServeNode(ctx, "n1", h) })
	task := functions.Task{ID: newID(), Function: "thumbnail"}
	run := func() error {
		return serverSide.Run(t.Context(), "n1", functions.Assignment{Attempt: 2, Task: task})
	}
	if err := whenConnected(t, run); err != nil {
		t.Errorf("run: %v", err)
	}
	kill := func() error {
		return serverSide.Kill(t.Context(), "n1", functions.Kill{Task: task.ID, Attempt: 2, Why: functions.TimedOutRun})
	}
	for _, c := range classes {
		answer = functions.NewError(c.class, "some_code", "what happened").WithHint("what to do").WithField("/a")
		for _, err := range []error{run(), whenConnected(t, kill)} {
			var e *functions.Error
			if !errors.Is(err, c.class) || !errors.As(err, &e) || e.Code != "some_code" || e.Message != "what happened" || e.Hint != "what to do" || e.Field != "/a" {
				t.Errorf("%s came as %+v", c.name, err)
			}
		}
		answer = c.class // bare
		if err := run(); !errors.Is(err, c.class) {
			t.Errorf("bare %s came as %v", c.name, err)
		}
	}
	answer = errors.New("internal")
	if err := run(); err == nil || err.Error() != "internal" || errors.Is(err, functions.ErrInvalid) {
		t.Errorf("an internal error came as %v", err)
	}
}

func TestOrdersToNobody(t *testing.T) {
	l := openLog(t, startServer(t, t.TempDir()))
	if err := l.Run(t.Context(), "n1", functions.Assignment{}); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("run: %v", err)
	}
	if err := l.Heartbeat(t.Context(), functions.Heartbeat{}); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("heartbeat: %v", err)
	}
	for _, bad := range []functions.NodeID{"", "*", "a.b", ">", "a b"} {
		if err := l.Run(t.Context(), bad, functions.Assignment{}); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("node %q: %v", bad, err)
		}
		if err := l.ServeNode(t.Context(), bad, &node{}); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("node %q: %v", bad, err)
		}
	}
	if err := l.FollowLog(t.Context(), "*", nil); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("follow: %v", err)
	}
}

// TestSlowAdmitHoldsNobodyUp, and ServeNode waits for it at the end.
func TestSlowAdmitHoldsNobodyUp(t *testing.T) {
	s := startServer(t, t.TempDir())
	nodeSide, serverSide := openLog(t, s), openLog(t, s)
	entered, release := make(chan struct{}, 2), make(chan struct{})
	var begun, finished atomic.Int32
	h := &node{
		admit: func(context.Context, functions.Assignment) error {
			if begun.Add(1) <= 2 {
				entered <- struct{}{}
			}
			<-release
			finished.Add(1)
			return nil
		},
		kill: func(context.Context, functions.Kill) error { return nil },
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- nodeSide.ServeNode(ctx, "n1", h) }()
	runs := make(chan error, 2)
	for range 2 {
		go func() {
			runs <- whenConnected(t, func() error { return serverSide.Run(t.Context(), "n1", functions.Assignment{}) })
		}()
		<-entered
	}
	if err := whenConnected(t, func() error { return serverSide.Kill(t.Context(), "n1", functions.Kill{}) }); err != nil {
		t.Errorf("kill: %v", err)
	}
	eventually(t, "one that nobody waits for any more has begun", func() bool {
		short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond) // a busy machine may not even send it by then
		defer stop()
		if err := serverSide.Run(short, "n1", functions.Assignment{}); !errors.Is(err, functions.ErrTimeout) {
			t.Errorf("no answer in time: %v", err)
		}
		return begun.Load() > 2
	})
	cancel()
	select {
	case err := <-served:
		t.Errorf("ServeNode left its handlers: %v", err)
	default:
	}
	close(release)
	if err := <-served; err != nil || finished.Load() < 3 || finished.Load() != begun.Load() {
		t.Errorf("%d of %d handlers finished, %v", finished.Load(), begun.Load(), err)
	}
	for range 2 {
		if err := <-runs; err != nil {
			t.Error(err)
		}
	}
}

// TestReadLogInParts: a log is larger than a message.
func TestReadLogInParts(t *testing.T) {
	s := startServer(t, t.TempDir())
	nodeSide, serverSide := openLog(t, s), openLog(t, s)
	h := &node{}
	for i := range 300 {
		h.lines = append(h.lines, functions.LogLine{N: int64(i + 1), Text: strings.Repeat("\x01", 10<<10)})
	}
	background(t, func(ctx context.Context) error { return nodeSide.ServeNode(ctx, "n1", h) })
	for _, after := range []int64{0, 299, 300} {
		var got []functions.LogLine
		err := whenConnected(t, func() (err error) {
			got, err = serverSide.ReadLog(t.Context(), "n1", newID(), 1, after)
			return err
		})
		if err != nil || len(got) != 300-int(after) {
			t.Fatalf("after %d: %d lines, %v", after, len(got), err)
		}
		for i, line := range got {
			if line.N != after+int64(i)+1 {
				t.Fatalf("line %d has number %d", i, line.N)
			}
		}
	}
}

// TestOnlyTheLeaderGrants: all servers hear a heartbeat, one answers.
func TestOnlyTheLeaderGrants(t *testing.T) {
	s := startServer(t, t.TempDir())
	n := openLog(t, s)
	var heard [3]atomic.Int32
	var leader atomic.Int32
	leader.Store(1)
	for i := range heard {
		l := openLog(t, s)
		background(t, func(ctx context.Context) error {
			return l.ServeHeartbeats(ctx, func(hb functions.Heartbeat) bool {
				heard[i].Add(1)
				return int(leader.Load()) == i
			})
		})
	}
	hb := functions.Heartbeat{Node: functions.NodeInfo{ID: "n1", Boot: "b"}}
	eventually(t, "all servers hear, and the leader answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // the leader may be the last to listen
		defer cancel()
		return n.Heartbeat(ctx, hb) == nil && heard[0].Load() > 0 && heard[1].Load() > 0 && heard[2].Load() > 0
	})
	leader.Store(9)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Heartbeat(ctx, hb); !errors.Is(err, functions.ErrTimeout) {
		t.Errorf("without a leader: %v", err)
	}
}

func TestProgressAndLogLines(t *testing.T) {
	s := startServer(t, t.TempDir())
	n, l := openLog(t, s), openLog(t, s)
	task, other := newID(), newID()
	progress := make(chan functions.Progress, 1000)
	background(t, func(ctx context.Context) error {
		return l.SubscribeProgress(ctx, func(p functions.Progress) {
			select {
			case progress <- p:
			default:
			}
		})
	})
	lines := make(chan []functions.LogLine, 1000)
	background(t, func(ctx context.Context) error {
		return l.FollowLog(ctx, task, func(ls []functions.LogLine) {
			select {
			case lines <- ls:
			default:
			}
		})
	})
	eventually(t, "progress arrives", func() bool {
		n.Progress(functions.Progress{Task: "a.*", Attempt: 1}) // goes nowhere
		n.Progress(functions.Progress{Task: task, Attempt: 1, Fraction: 0.5})
		return len(progress) > 0
	})
	if p := <-progress; p.Task != task || p.Fraction != 0.5 {
		t.Errorf("progress %+v", p)
	}
	eventually(t, "lines arrive", func() bool {
		n.LogLines([]functions.LogLine{
			{Task: other, Attempt: 1, N: 1, Text: "not ours"},
			{Task: task, Attempt: 1, N: 1, Text: "one"}, {Task: task, Attempt: 1, N: 2, Text: "two"},
			{Task: task, Attempt: 2, N: 1, Text: "again"},
		})
		return len(lines) > 2
	})
	ls := <-lines
	if ls[0].Attempt == 2 { // it began to listen between the two
		ls = <-lines
	}
	if len(ls) != 2 || ls[1].Text != "two" {
		t.Errorf("lines %+v", ls)
	}
	if ls = <-lines; len(ls) != 1 || ls[0].Attempt != 2 {
		t.Errorf("lines %+v", ls)
	}
}
