package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends/endstest"
)

// leading runs the server's term until what it returns is called.
func (w *world) leading() (stop func()) { return endstest.Lead(w.chain.Run) }

func idOf(i int) functions.TaskID {
	return functions.TaskID(fmt.Sprintf("0190c3a5-0000-7000-8000-%012d", i))
}

// task has the function b and a bucket for either end, and c for failures.
func task(i int, state functions.State) functions.Task {
	both := []functions.Destination{{Function: "b"}, {Bucket: "ends", Prefix: "a/"}}
	return functions.Task{
		ID: idOf(i), Function: "a", Version: 3, State: state, Attempt: 1, Event: json.RawMessage(`{"n":1}`),
		OnSuccess: both, OnFailure: append(both, functions.Destination{Function: "c"}),
	}
}

func TestTheRecordOfAnEnd(t *testing.T) {
	text := "plain"
	for name, c := range map[string]struct {
		edit func(*functions.Task)
		want string // what follows the function's name
	}{
		"success": {func(t *functions.Task) { t.Outcome = &functions.Outcome{Result: json.RawMessage(`[1]`)} },
			`"condition":"Success","approximateInvokeCount":1},"requestPayload":{"n":1},"responseContext":{"statusCode":200,"executedVersion":"3"},"responsePayload":[1]}`},
		"text": {func(t *functions.Task) { t.Outcome = &functions.Outcome{ResultText: &text}; t.Event = nil },
			`"condition":"Success","approximateInvokeCount":1},"requestPayload":null,"responseContext":{"statusCode":200,"executedVersion":"3"},"responsePayload":"plain"}`},
		"large": {func(t *functions.Task) {
			t.EventRef, t.Outcome = &functions.ObjectRef{Key: "event"}, &functions.Outcome{ResultRef: &functions.ObjectRef{Key: "gone"}}
		}, `"condition":"Success","approximateInvokeCount":1},"requestPayload":{"big":2},"responseContext":{"statusCode":200,"executedVersion":"3"},"responsePayload":null}`},
		"too large": {func(t *functions.Task) {
			t.Outcome = &functions.Outcome{ResultRef: &functions.ObjectRef{Bucket: "results", Key: "k", Size: 7 << 20}}
		}, `"condition":"Success","approximateInvokeCount":1},"requestPayload":{"n":1},"responseContext":{"statusCode":200,"executedVersion":"3"},"responsePayload":{"bucket":"results","key":"k","size":7340032}}`},
		"failure": {func(t *functions.Task) {
			t.State, t.Attempt = functions.Failed, 3
			t.Failure = &functions.Failure{Class: functions.ExitError, Message: "exit 3", Type: "ValueError"}
		}, `"condition":"RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"n":1},"responseContext":{"statusCode":200,"executedVersion":"3","functionError":"Unhandled"},"responsePayload":{"errorMessage":"exit 3","errorType":"ValueError"}}`},
		"expired": {func(t *functions.Task) {
			t.State, t.Attempt = functions.Expired, 0
			t.Failure = &functions.Failure{Class: functions.QueueExpired, Message: "no place"}
		}, `"condition":"EventAgeExceeded","approximateInvokeCount":0},"requestPayload":{"n":1},"responsePayload":{"errorMessage":"no place","errorType":"queue_timeout"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.large["event"] = `{"big":2}`
			ended := task(1, functions.Succeeded)
			ended.FinishedAt = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
			c.edit(&ended)
			got, err := w.chain.recordOf(t.Context(), &ended)
			want := `{"version":"1.0","timestamp":"2026-01-02T03:04:05.678Z","requestContext":{"requestId":"` + string(ended.ID) +
				`","functionArn":"arn:aws:lambda:us-east-1:000000000000:function:a:3",` + c.want
			if err != nil || string(got) != want {
				t.Errorf("%s, %v\nwant %s", got, err, want)
			}
		})
	}
}

func TestDestinationsOfAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		state functions.State
		depth int
		want  string
	}{
		"success":           {functions.Succeeded, 0, "b"},
		"failure":           {functions.Failed, 0, "b c"},
		"timeout":           {functions.TimedOut, 2, "b c"},
		"expiry":            {functions.Expired, 0, "b c"},
		"canceled":          {functions.Canceled, 0, ""},
		"the chain is long": {functions.Succeeded, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				defer w.leading()()
				w.set(task(1, functions.Assigned))
				ended := task(1, c.state)
				ended.Depth = c.depth
				w.set(ended)
				time.Sleep(time.Hour)
				synctest.Wait()
				got := ""
				for _, fn := range []string{"b", "c"} {
					for id, calls := range w.accepted {
						if !strings.HasPrefix(id, fn+" ") {
							continue
						}
						got += fn + " "
						if call := calls[0]; call.Parent != ended.ID || call.Depth != c.depth+1 || call.Source != "chain" || call.Key == "" || call.Key != "chain|"+call.BodyHash {
							t.Errorf("it was called as %+v", call)
						}
					}
				}
				if strings.TrimSpace(got) != c.want {
					t.Errorf("%s were called, want %s", got, c.want)
				}
				written := w.objects["ends/a/"+string(ended.ID)+".json"]
				if want := c.state != functions.Canceled; (len(written) == 1) != want {
					t.Errorf("%d objects were written", len(written))
				}
				for _, d := range w.Deliveries() {
					if !d.Next.IsZero() || d.Delivered.IsZero() != (c.depth == 3) || (d.GaveUp != "") != (c.depth == 3) {
						t.Errorf("the record says %+v", d)
					}
				}
			})
		})
	}
}

func TestADestinationThatNeverTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		tries := 0
		w.fail = func() error { tries++; return functions.NotFound("function_not_found", "no function b") }
		defer w.leading()()
		one := task(1, functions.Succeeded)
		one.OnSuccess = one.OnSuccess[:1]
		w.set(one)
		time.Sleep(patience - time.Hour)
		synctest.Wait()
		for _, d := range w.Deliveries() {
			if d.Next.IsZero() || d.GaveUp != "" || len(d.Tries) > mostKept || !strings.Contains(d.Tries[0].Error, "function b: no function b") {
				t.Errorf("the record says %+v", d)
			}
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		n := tries
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		for _, d := range w.Deliveries() {
			if !d.Next.IsZero() || d.GaveUp == "" || tries != n || n < 800 {
				t.Errorf("after %d tries (then %d) the record says %+v", n, tries, d)
			}
		}
	})
}

func TestATaskThatIsBegunAgainHasTwoEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer w.leading()()
		w.set(task(1, functions.Failed))
		synctest.Wait()
		w.set(task(1, functions.Queued)) // a client asks for it again
		time.Sleep(time.Second)
		w.set(task(1, functions.Succeeded))
		synctest.Wait()
		if n := len(w.accepted); n != 3 { // b and c of the first, b of the second
			t.Errorf("%d tasks were made: %v", n, w.accepted)
		}
		if n := len(w.objects["ends/a/"+string(idOf(1))+".json"]); n != 2 {
			t.Errorf("%d records were written, want one after the other", n)
		}
	})
}

// TestEveryEndIsHandedOnOnce, whoever led when it came, and whatever failed: one
// task per function, one object per bucket.
func TestEveryEndIsHandedOnOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 40).Draw(rt, "steps")
		failing := rapid.IntRange(1, 5).Draw(rt, "one request fails in")
		late := rapid.Bool().Draw(rt, "it fails after it is done")
		var fault string
		synctest.Test(t, func(*testing.T) { fault = history(steps, failing, late) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// history plays the steps, in which an end under 20 is a failure.
func history(steps []int, failing int, late bool) (fault string) {
	w := newWorld()
	requests := 0
	w.late = late
	w.fail = func() error {
		if requests++; requests%failing == 0 && requests < 30 {
			return errors.New("connection lost")
		}
		return nil
	}
	want := map[string]int{}
	w.Play(steps, func(i, step int) {
		ended := task(i, functions.Succeeded)
		want["b"]++
		if step < 20 {
			ended.State = functions.Failed
			want["c"]++
		}
		w.set(ended)
		want["objects"]++
	}, w.restart, w.leading)
	got := map[string]int{}
	for id := range w.accepted {
		got[id[:1]]++
	}
	for key, versions := range w.objects {
		got["objects"]++
		if len(versions) != 1 {
			return fmt.Sprintf("%s was written %d times", key, len(versions))
		}
	}
	for _, what := range []string{"b", "c", "objects"} {
		if got[what] != want[what] {
			return fmt.Sprintf("%s: %d, want %d", what, got[what], want[what])
		}
	}
	return ""
}
