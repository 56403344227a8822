package main

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/spillway/spillway/functions"
)

// maxHistory is of how many functions a new leader learns what their tasks took;
// those that succeeded most often go first.
const maxHistory = 256

// ended is what the projection knows of tasks.
type ended interface {
	Counts(ctx context.Context) (functions.Counts, error)
	List(ctx context.Context, q functions.TaskQuery) (functions.TaskPage, error)
}

// history reads from the projection what tasks took, for a scheduler whose term
// begins.
type history struct{ tasks ended }

// Succeeded streams the newest tasks that succeeded, at most so many of each
// function.
func (h history) Succeeded(ctx context.Context, each int) iter.Seq2[functions.Task, error] {
	return func(yield func(functions.Task, error) bool) {
		counts, err := h.tasks.Counts(ctx)
		if err != nil {
			yield(functions.Task{}, err)
			return
		}
		names := make([]functions.Name, 0, len(counts))
		for name, n := range counts {
			if n[functions.Succeeded] > 0 {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b functions.Name) int {
			return cmp.Or(-cmp.Compare(counts[a][functions.Succeeded], counts[b][functions.Succeeded]), cmp.Compare(a, b))
		})
		for _, name := range names[:min(len(names), maxHistory)] {
			page, err := h.tasks.List(ctx, functions.TaskQuery{Function: name, States: []functions.State{functions.Succeeded}, Limit: each})
			if err != nil {
				yield(functions.Task{}, err)
				return
			}
			for i := range page.Tasks {
				if !yield(page.Tasks[i], nil) {
					return
				}
			}
		}
	}
}
