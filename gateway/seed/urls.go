package seed

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
	"github.com/spillway/spillway/gateway/intake"
)

// Bounds of the routes that take URLs.
const (
	maxURLBody = 1 * functions.MiB
	maxBatch   = 50
	lookups    = 8 // URLs of one batch that are looked at at the same time

	takeBackTime = 10 * time.Second // for canceling what a refused batch has begun
)

// urlItem is a file at a URL, to be ingested. Keys that it does not have are
// ignored, as the older service did.
type urlItem struct {
	SourceType string          `json:"source_type"`
	URL        string          `json:"url"`
	WebhookURL string          `json:"webhook_url"`
	Metadata   json.RawMessage `json:"metadata"`
	Docling    json.RawMessage `json:"use_docling"`
	GPU        json.RawMessage `json:"gpu"`
}

type batchRequest struct {
	Items      []json.RawMessage `json:"items"`
	WebhookURL string            `json:"webhook_url"` // of items without one
	GPU        json.RawMessage   `json:"gpu"`         // of items that do not say
}

// flag reads a switch of a JSON body: a boolean, or one of the form's words.
func flag(name string, raw json.RawMessage) (bool, error) {
	text := string(raw)
	if text == "null" {
		return false, nil
	}
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return false, err
		}
	}
	return truth(name, text)
}

func (a *API) ingestURL(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	call, err := a.urlCall(ctx, body, batchRequest{})
	if err != nil {
		return err
	}
	call.ID = a.cfg.Door.NewID()
	ticket, err := a.cfg.Door.Accept(ctx, call)
	if err != nil {
		return fmt.Errorf("accept task: %w", err)
	}
	return a.answer(w, r, http.StatusOK, accepted{
		TaskID: ticket.Task.ID, Status: "pending",
		Message:       fmt.Sprintf("URL was accepted and will be processed by %s", call.Function),
		EstimatedTime: a.estimate(ctx, call.Function),
	})
}

// batchAccepted is the answer to a batch: exactly these fields.
type batchAccepted struct {
	BatchID    string             `json:"batch_id"`
	TaskIDs    []functions.TaskID `json:"task_ids"`
	TotalItems int                `json:"total_items"`
	Message    string             `json:"message"`
}

// ingestBatch takes all items or none. Whatever can be wrong with an item is
// found before the first is accepted. What then fails is ours (a full queue, a
// log that is down): with an Idempotency-Key the items accepted so far stay, and
// the same batch sent again takes only the others; without one they are canceled,
// so that sending it again does nothing twice.
func (a *API) ingestBatch(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	var batch batchRequest
	if err := decode(body, &batch); err != nil {
		return err
	}
	if n := len(batch.Items); n < 1 || n > maxBatch {
		return functions.Invalid("bad_field", "items: a batch has 1 to %d items, and this one has %d", maxBatch, n).WithField("items")
	}
	calls, err := a.batchCalls(ctx, batch)
	if err != nil {
		return err
	}
	out := batchAccepted{BatchID: string(a.cfg.Door.NewID()), TotalItems: len(calls)}
	key := r.Header.Get("Idempotency-Key")
	if key != "" {
		out.BatchID = digest("batch", key)[:32]
	}
	for i, call := range calls {
		call.ID = a.cfg.Door.NewID()
		if key != "" {
			call.Key = fmt.Sprintf("batch-%s-%d", out.BatchID, i)
			call.BodyHash = digest(string(batch.Items[i]), batch.WebhookURL, string(batch.GPU))
		}
		ticket, err := a.cfg.Door.Accept(ctx, call)
		if err != nil {
			if key == "" {
				a.takeBack(ctx, out.TaskIDs)
			}
			return fmt.Errorf("accept item %d: %w", i, err)
		}
		out.TaskIDs = append(out.TaskIDs, ticket.Task.ID)
	}
	out.Message = fmt.Sprintf("Batch of %d items was accepted", len(calls))
	return a.answer(w, r, http.StatusOK, out)
}

// digest is a SHA-256 of texts, in hex.
func digest(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// takeBack cancels the tasks of a batch that cannot be accepted as a whole.
func (a *API) takeBack(ctx context.Context, ids []functions.TaskID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	for _, id := range ids {
		_, err := a.cfg.Control.Submit(ctx, functions.Event{
			Kind: functions.Control, Task: id, At: a.cfg.Now().UTC(), Ctl: &functions.Request{Verb: functions.Cancel, By: "seed"},
		})
		if err != nil {
			a.cfg.Log.Warn("task of a refused batch is not canceled", "task", id, "err", err)
		}
	}
}

// batchCalls makes a call of each item, or returns what is wrong with the first
// that is wrong.
func (a *API) batchCalls(ctx context.Context, batch batchRequest) ([]intake.Call, error) {
	calls, errs := make([]intake.Call, len(batch.Items)), make([]error, len(batch.Items))
	room := make(chan struct{}, lookups)
	var group sync.WaitGroup
	for i, item := range batch.Items {
		room <- struct{}{}
		group.Go(func() {
			calls[i], errs[i] = a.urlCall(ctx, item, batch)
			<-room
		})
	}
	group.Wait()
	for i, err := range errs {
		var known *functions.Error
		if errors.As(err, &known) {
			e := *known
			e.Message = fmt.Sprintf("items[%d]: %s", i, known.Message)
			return nil, e.WithField(strings.TrimSuffix(fmt.Sprintf("items[%d].%s", i, known.Field), "."))
		}
		if err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// urlCall turns an item into the wish to run a function; batch holds what the
// item does not say.
func (a *API) urlCall(ctx context.Context, body []byte, batch batchRequest) (intake.Call, error) {
	var item urlItem
	if err := decode(body, &item); err != nil {
		return intake.Call{}, err
	}
	if item.GPU == nil {
		item.GPU = batch.GPU
	}
	item.WebhookURL = cmp.Or(strings.TrimSpace(item.WebhookURL), batch.WebhookURL)
	if !strings.HasPrefix(item.URL, "http://") && !strings.HasPrefix(item.URL, "https://") {
		return intake.Call{}, functions.Invalid("bad_field", "url: must start with http:// or https://").WithField("url")
	}
	gpu, err := flag("gpu", item.GPU)
	if err != nil {
		return intake.Call{}, err
	}
	docling, err := flag("use_docling", item.Docling)
	if err != nil {
		return intake.Call{}, err
	}
	metadata, err := pack(item.SourceType, item.WebhookURL, item.Metadata)
	if err != nil {
		return intake.Call{}, err
	}
	if strings.EqualFold(strings.TrimSpace(item.SourceType), string(youtube)) {
		return a.youtubeCall(item.URL, metadata, gpu, docling)
	}
	if _, named := classOf(item.SourceType); named { // before any server is asked
		if _, err := a.choose(item.SourceType, content.Type{}); err != nil {
			return intake.Call{}, err
		}
	}
	in, kind, err := a.cfg.Door.Look(ctx, intake.Ref{URL: item.URL})
	if err != nil {
		return intake.Call{}, unprocessable(err)
	}
	fn, err := a.choose(item.SourceType, kind)
	if err != nil {
		return intake.Call{}, err
	}
	return callFor(fn, in, kind, metadata, gpu, docling), nil
}

// youtube is the one source type whose URL is not that of a file. What takes such
// a page is a function of this name, which gets the URL as its event.
const youtube functions.Name = "youtube"

func (a *API) youtubeCall(url string, metadata memory, gpu, docling bool) (intake.Call, error) {
	if !slices.ContainsFunc(a.cfg.Functions.List(), func(f functions.Function) bool { return f.Name == youtube }) {
		return intake.Call{}, functions.Invalid("no_handler", "no deployed function handles youtube").WithField("source_type").
			WithHint("send the URL of the audio or video file itself, or deploy a function named youtube, with network, that takes {\"url\": ...}")
	}
	event, err := json.Marshal(map[string]string{"url": url})
	if err != nil {
		return intake.Call{}, err
	}
	c := callFor(youtube, functions.Input{}, content.JSON(), metadata, gpu, docling)
	c.Inputs, c.Event = nil, event
	return c, nil
}

// unprocessable makes every refusal of a URL one of the request's own: here 404
// and 403 are about routes and tasks.
func unprocessable(err error) error {
	var known *functions.Error
	if !errors.As(err, &known) || errors.Is(known.Class, functions.ErrTimeout) || errors.Is(known.Class, functions.ErrUnavailable) {
		return err
	}
	e := *known
	e.Class, e.Message = functions.ErrInvalid, "url: "+known.Message
	return e.WithField("url")
}

func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(maxURLBody)))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, functions.Invalid("bad_json", "the body ends too early").WithCause(err)
	}
	return body, err
}

func decode(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	var known *functions.Error
	switch {
	case err == nil && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")):
		return nil
	case errors.As(err, &known):
		return known
	case err != nil:
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return functions.Invalid("bad_field", "%s: must not be a %s", wrong.Field, wrong.Value).WithField(wrong.Field)
		}
		return functions.Invalid("bad_json", "the body is not a JSON object").WithCause(err)
	}
	return functions.Invalid("bad_json", "the body is not a JSON object")
}
