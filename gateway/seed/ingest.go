package seed

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// accepted is the answer to an accepted file: exactly these fields.
type accepted struct {
	TaskID        functions.TaskID `json:"task_id"`
	Status        string           `json:"status"`
	Message       string           `json:"message"`
	EstimatedTime *int             `json:"estimated_time"` // seconds; null when nothing of the kind has ended yet
}

func (a *API) ingestFile(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	r.Body = http.MaxBytesReader(w, r.Body, int64(a.cfg.MaxUpload))
	id := a.cfg.Door.NewID()
	f, err := a.readForm(ctx, r, id)
	var call intake.Call
	if err == nil {
		call, err = a.call(id, f)
	}
	if err != nil {
		a.discard(ctx, f)
		return err
	}
	ticket, err := a.cfg.Door.Accept(ctx, call)
	if err != nil {
		if intake.Refused(err) {
			a.discard(ctx, f)
		}
		return fmt.Errorf("accept task: %w", err)
	}
	return a.answer(w, r, http.StatusOK, accepted{
		TaskID: ticket.Task.ID, Status: "pending",
		Message:       fmt.Sprintf("File %s was accepted and will be processed by %s", f.input.Name, call.Function),
		EstimatedTime: a.estimate(ctx, call.Function),
	})
}

// discard deletes the file of a form that made no task.
func (a *API) discard(ctx context.Context, f form) {
	if f.input == nil {
		return
	}
	if err := a.cfg.Door.Discard(ctx, []functions.Input{*f.input}); err != nil {
		a.cfg.Log.Warn("file of a refused form stays in the store", "err", err)
	}
}

// call turns the form into the wish to run a function.
func (a *API) call(id functions.TaskID, f form) (intake.Call, error) {
	gpu, err := f.flag("gpu")
	if err != nil {
		return intake.Call{}, err
	}
	docling, err := f.flag("use_docling")
	if err != nil {
		return intake.Call{}, err
	}
	metadata, err := f.metadata()
	if err != nil {
		return intake.Call{}, err
	}
	fn, err := a.choose(f.fields["source_type"], f.content)
	if err != nil {
		return intake.Call{}, err
	}
	c := callFor(fn, *f.input, f.content, metadata, gpu, docling)
	c.ID = id
	return c, nil
}

// callFor is the wish to run fn on one file.
func callFor(fn functions.Name, in functions.Input, kind content.Type, m memory, gpu, docling bool) intake.Call {
	c := intake.Call{
		Function: fn, Policy: functions.Never, Content: kind, Inputs: []functions.Input{in}, Source: "seed", Metadata: m.metadata, Webhook: m.webhook,
	}
	if gpu { // it was a wish there as well: the work was done on a CPU when no GPU was free
		c.Policy = functions.Preferred
	}
	if docling {
		c.Params = json.RawMessage(`{"use_docling":true}`)
	}
	return c
}

// sourceTypes are the kinds that clients name. A web page is a document once it
// is a file. Other words say nothing, and the file's own content decides.
var sourceTypes = map[string]functions.ContentClass{
	"audio": functions.Audio, "video": functions.Video, "image": functions.Image,
	"document": functions.Document, "web": functions.Document, "data": functions.Data,
}

// classOf reads a source type; false when it says nothing.
func classOf(sourceType string) (functions.ContentClass, bool) {
	class, named := sourceTypes[strings.ToLower(strings.TrimSpace(sourceType))]
	return class, named
}

// choose finds the function that handles the content: of several, the one first
// in the alphabet.
func (a *API) choose(sourceType string, t content.Type) (functions.Name, error) {
	class, named := classOf(sourceType)
	if !named {
		class = functions.ClassOf(t.ContentType)
	}
	all := a.cfg.Functions.List()
	slices.SortFunc(all, func(a, b functions.Function) int { return cmp.Compare(a.Name, b.Name) })
	var offers []string
	for _, fn := range all {
		if slices.Contains(fn.Handles, class) {
			return fn.Name, nil
		}
		if len(fn.Handles) > 0 {
			words := make([]string, len(fn.Handles))
			for i, h := range fn.Handles {
				words[i] = string(h)
			}
			offers = append(offers, fmt.Sprintf("%s handles %s", fn.Name, strings.Join(words, ", ")))
		}
	}
	have := "no function handles anything"
	if len(offers) > 0 {
		have = strings.Join(offers, "; ")
	}
	what := string(class)
	if t.ContentType != "" {
		what += " (" + t.ContentType + ")"
	}
	return "", functions.Invalid("no_handler", "no deployed function handles %s; %s", what, have).
		WithField("source_type").WithHint("deploy a function whose spec says handles: [%s]", class)
}

// estimate is the median time, in seconds, that the newest successes of the
// function took from acceptance to result.
func (a *API) estimate(ctx context.Context, fn functions.Name) *int {
	page, err := a.cfg.Tasks.List(ctx, functions.TaskQuery{Function: fn, States: []functions.State{functions.Succeeded}, Limit: 15})
	if err != nil || len(page.Tasks) == 0 {
		return nil // an estimate is not worth an error: the task is accepted
	}
	took := make([]float64, len(page.Tasks))
	for i, t := range page.Tasks {
		took[i] = t.FinishedAt.Sub(t.CreatedAt).Seconds()
	}
	slices.Sort(took)
	seconds := int(math.Ceil(max(0, took[len(took)/2])))
	return &seconds
}
