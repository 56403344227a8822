package seed

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/spillway/spillway/functions"
)

// statuses maps each class to the status that the older service, or the
// framework under it, answers with.
var statuses = []struct {
	class  error
	status int
}{
	{functions.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{functions.ErrInvalid, http.StatusUnprocessableEntity},
	{functions.ErrNotFound, http.StatusNotFound},
	{functions.ErrConflict, http.StatusConflict},
	{functions.ErrThrottled, http.StatusTooManyRequests},
	{functions.ErrForbidden, http.StatusForbidden},
	{functions.ErrTimeout, http.StatusGatewayTimeout},
	{functions.ErrUnavailable, http.StatusServiceUnavailable},
}

// problem is an error body: detail is all that the older clients know.
type problem struct {
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitempty"`
	Field  string `json:"field,omitempty"`
}

// fail answers an error, and logs it when it is ours. The caller never sees the
// text of an internal one.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = functions.NewError(functions.ErrTooLarge, "body_too_large", "the request is over %v", a.cfg.MaxUpload).
			WithHint("upload it with a presigned request, which has no such limit")
		w.Header().Set("Connection", "close") // the rest of the body is not worth reading
	}
	status := http.StatusInternalServerError
	body := problem{Detail: "Internal server error", Code: "internal"}
	for _, s := range statuses {
		if errors.Is(err, s.class) {
			status, body.Detail, body.Code = s.status, http.StatusText(s.status), "error"
			break
		}
	}
	var e *functions.Error
	if status != http.StatusInternalServerError && errors.As(err, &e) {
		body = problem{Detail: e.Message, Code: e.Code, Hint: e.Hint, Field: e.Field}
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	if status >= 500 && r.Context().Err() == nil {
		a.cfg.Log.Error("request failed", "path", r.URL.Path, "status", status, "err", err)
	}
	a.answer(w, r, status, body)
}

func (a *API) answer(w http.ResponseWriter, r *http.Request, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(append(text, '\n')); err != nil {
		a.cfg.Log.Debug("client left before its answer", "path", r.URL.Path, "err", err)
	}
	return nil
}
