package functions

import (
	"errors"
	"testing"
	"time"
)

func TestDestinationsOfATask(t *testing.T) {
	good, bad := []Destination{{Function: "b"}, {Bucket: "ends", Prefix: "b/"}}, []Destination{{Bucket: "ends"}}
	for _, state := range States {
		task := Task{State: state, OnSuccess: good, OnFailure: bad}
		want := map[State]int{Succeeded: 2, Failed: 1, TimedOut: 1, Expired: 1}[state]
		if got := task.Destinations(); len(got) != want {
			t.Errorf("%s: %v, want %d", state, got, want)
		}
	}
	if err := Destinations("on_success", good); err != nil {
		t.Error(err)
	}
	var e *Error
	if err := Destinations("on_failure", []Destination{{}}); !errors.As(err, &e) || e.Field != "on_failure[0].function" || e.Code != "bad_destination" {
		t.Errorf("an empty destination: %v", err)
	}
	if a, b := good[1].Key("t"), good[1].String(); a != "b/t.json" || b != "bucket ends/b/" {
		t.Error(a, b)
	}
}

func TestBoundsOfACall(t *testing.T) {
	for d, ok := range map[time.Duration]bool{
		0: true, time.Second: true, longestWait: true, -time.Second: false, time.Millisecond: false, 1500 * time.Millisecond: false, longestWait + time.Second: false,
	} {
		if err := MaxAge(d); (err == nil) != ok {
			t.Errorf("an age of %s: %v", d, err)
		}
	}
	for r, ok := range map[Retries]bool{
		{}: true, {Max: 10, Backoff: Duration(time.Hour)}: true, {Max: 11}: false, {Max: -1}: false, {Max: 1, Backoff: -1}: false,
	} {
		if err := r.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// TestARetryForgetsTheAge of the first call: the client finds the event new enough.
func TestARetryForgetsTheAge(t *testing.T) {
	task := Task{ID: id1, State: Expired, MaxAge: Duration(time.Minute), Retries: &Retries{Max: 2}}
	again, err := task.Apply(Event{Kind: Control, Task: id1, Ctl: &Request{Verb: Retry}}, 1, 2)
	if err != nil || again.MaxAge != 0 || again.Retries == nil {
		t.Errorf("%+v, %v", again, err)
	}
}
