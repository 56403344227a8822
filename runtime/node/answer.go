package node

import (
	"context"
	"encoding/json"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/serve"
)

// answerFile is the name of an answer that is no JSON, as an output.
const answerFile = "response"

// keepAnswer makes an answer the attempt's result. JSON is the result itself;
// anything else is an output file of the type that the function has declared.
func (n *Node) keepAnswer(ctx context.Context, a *attempt, res serve.Response, out *functions.Outcome) *functions.Failure {
	switch {
	case len(res.Body) == 0:
		return nil
	case isJSON(res.ContentType, a.spec.Contract) && json.Valid(res.Body):
		return n.setResult(ctx, a, res.Body, out)
	}
	kind := res.ContentType
	if kind == "" {
		kind = contentType("", res.Body[:min(512, len(res.Body))])
	}
	ref, err := n.putBytes(ctx, a.prefix()+"/"+answerFile, res.Body, kind)
	if err != nil {
		return storeFailure("store the answer", err)
	}
	out.Outputs = []functions.Output{{Name: answerFile, ObjectRef: ref}}
	return nil
}

// isJSON reports whether an answer means to be JSON. A Lambda runtime declares
// types at random.
func isJSON(contentType string, c functions.Contract) bool {
	if c == functions.LambdaContract || contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// perTask are variables of the task contract that a container of many tasks
// cannot have.
var perTask = []string{
	"TASK_ID", "TASK_ATTEMPT", "TASK_DEADLINE_MS", "TASK_INPUT_DIR", "TASK_OUTPUT_DIR",
	"TASK_EVENT_FILE", "TASK_RESULT_FILE", "TASK_PROGRESS_FILE",
}

// servedEnvironment is what the task contract promises, as far as it is the same
// for every task, and what the function's own contract promises beside it. The
// spec's own variables win over the latter's.
func servedEnvironment(as functions.Assignment, s functions.Spec, devices []functions.GPUInfo, name string) []string {
	env := make(map[string]string)
	if s.Contract == functions.LambdaContract {
		maps.Copy(env, serve.LambdaEnv(as.Function, s, name))
	} else {
		maps.Copy(env, serve.HTTPEnv(as.Function, s))
	}
	for _, kv := range environment(as, s, devices, time.Time{}) {
		if k, v, _ := strings.Cut(kv, "="); !slices.Contains(perTask, k) {
			env[k] = v
		}
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
