package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/spillway/spillway/functions"
)

// shelf is a projection that holds counts and answers any page with its limit.
type shelf struct {
	counts functions.Counts
	broken functions.Name
	asked  []functions.TaskQuery
}

var errShelf = errors.New("the shelf fell down")

func (s *shelf) Counts(context.Context) (functions.Counts, error) { return s.counts, nil }

func (s *shelf) List(_ context.Context, q functions.TaskQuery) (functions.TaskPage, error) {
	s.asked = append(s.asked, q)
	if q.Function == s.broken {
		return functions.TaskPage{}, errShelf
	}
	var page functions.TaskPage
	for range min(int64(q.Limit), s.counts[q.Function][functions.Succeeded]) {
		page.Tasks = append(page.Tasks, functions.Task{Function: q.Function, State: functions.Succeeded})
	}
	return page, nil
}

func TestHistoryIsBoundedAndOfTheBusiestFunctions(t *testing.T) {
	s := &shelf{counts: functions.Counts{
		"never":  {functions.Failed: 1000},
		"busy":   {functions.Succeeded: 100},
		"rarely": {functions.Succeeded: 2},
	}}
	got := map[functions.Name]int{}
	for task, err := range (history{s}).Succeeded(t.Context(), 64) {
		if err != nil {
			t.Fatal(err)
		}
		got[task.Function]++
	}
	if len(got) != 2 || got["busy"] != 64 || got["rarely"] != 2 {
		t.Errorf("read %v", got)
	}
	for _, q := range s.asked {
		if !slices.Equal(q.States, []functions.State{functions.Succeeded}) {
			t.Errorf("asked for %+v", q)
		}
	}

	for range (history{s}).Succeeded(t.Context(), 64) {
		break
	}
	s.broken = "rarely"
	var last error
	for _, err := range (history{s}).Succeeded(t.Context(), 64) {
		last = err
	}
	if !errors.Is(last, errShelf) {
		t.Errorf("a projection that fails ends it with %v", last)
	}

	s.counts, s.asked = functions.Counts{}, nil
	for i := range 2 * maxHistory {
		s.counts[functions.Name(fmt.Sprint("f", i))] = map[functions.State]int64{functions.Succeeded: int64(i) + 1}
	}
	n := 0
	for range (history{s}).Succeeded(t.Context(), 1) {
		n++
	}
	if n != maxHistory || s.asked[0].Function != functions.Name(fmt.Sprint("f", 2*maxHistory-1)) {
		t.Errorf("read %d functions, first %s", n, s.asked[0].Function)
	}
}
