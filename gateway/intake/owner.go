package intake

import (
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Results holds what tasks leave. Nodes write it.
const Results = "results"

// What begins the keys of Bucket.
const (
	InputPrefix = "in/" // + task / file name
	EventPrefix = "ev/" // + task
)

// Owner says for which task an object of our own buckets was stored, and as what.
type Owner struct {
	Task    functions.TaskID
	Kind    functions.Stored
	Attempt int // that left it; 0 for inputs
}

// OwnerOf tells an object's owner by its name alone. It is strict: a name that
// Spillway never gives belongs to nobody, and nobody but who put it there may
// delete it.
func OwnerOf(bucket, key string) (Owner, bool) {
	var o Owner
	ok := false
	switch bucket {
	case Bucket:
		o, ok = ownerOfInput(key)
	case Results:
		o, ok = ownerOfResult(key)
	}
	if !ok || o.Task.Time().IsZero() {
		return Owner{}, false
	}
	return o, true
}

func ownerOfInput(key string) (Owner, bool) {
	if id, ok := strings.CutPrefix(key, EventPrefix); ok {
		return Owner{Task: functions.TaskID(id), Kind: functions.StoredInputs}, true
	}
	rest, ok := strings.CutPrefix(key, InputPrefix)
	id, name, _ := strings.Cut(rest, "/")
	return Owner{Task: functions.TaskID(id), Kind: functions.StoredInputs}, ok && functions.FileName(name) == nil
}

// ownerOfResult reads task/attempt/output, task/attempt.log.jsonl, and the names
// of a large result and of a long list of outputs.
func ownerOfResult(key string) (o Owner, ok bool) {
	id, rest, _ := strings.Cut(key, "/")
	end := strings.IndexAny(rest, "/.")
	if end < 0 {
		return Owner{}, false
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil || n < 1 || strconv.Itoa(n) != rest[:end] {
		return Owner{}, false
	}
	o = Owner{Task: functions.TaskID(id), Kind: functions.StoredOutputs, Attempt: n}
	switch rest = rest[end:]; rest {
	case ".log.jsonl":
		o.Kind = functions.StoredLogs
		return o, true
	case ".result", ".result.json", ".outputs.json":
		return o, true
	}
	name, ok := strings.CutPrefix(rest, "/")
	return o, ok && functions.OutputName(name) == nil
}
