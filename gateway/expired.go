package gateway

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// expired is the answer to a request that needs files of a task which are not
// kept any more.
func expired(t *functions.Task, kind functions.Stored) error {
	since := "any more"
	if at := t.Purged.Of(kind); !at.IsZero() {
		since = "since " + at.UTC().Format(time.RFC3339)
	}
	switch kind {
	case functions.StoredInputs:
		return functions.NewError(functions.ErrConflict, "inputs_expired", "task %s cannot be retried: its inputs are not kept %s", t.ID, since).
			WithHint("call the function again with the same input")
	case functions.StoredLogs:
		return functions.NotFound("logs_expired", "the log of task %s is not kept %s", t.ID, since).
			WithHint("the task at /v1/tasks/%s still says how it ended; the server's retention settings say how long logs are kept", t.ID)
	}
	return functions.NotFound("results_expired", "the stored results of task %s are not kept %s", t.ID, since).
		WithHint("call the function again; the server's retention settings say how long results are kept")
}
