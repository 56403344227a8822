package gateway_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// TestDestinationsAndSchedulesAreShown: the answers are checked against openapi.json.
func TestDestinationsAndSchedulesAreShown(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "POST", "/v1/functions", `{"name":"first","image":"i","retries":{"max":2,"backoff":"1m"},
		"on_success":[{"function":"next"}],"on_failure":[{"function":"alarm"},{"bucket":"ends","prefix":"failed/"}],
		"schedules":[{"cron":"cron(0 12 * * ? *)","timezone":"Europe/Berlin","event":{"a":[1]}},{"rate":"rate(5 minutes)"}]}`)
	if rec.Code != 201 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	fn := decode[functions.Function](t, rec)
	if fn.OnSuccess[0].Function != "next" || fn.OnFailure[1].Prefix != "failed/" || string(fn.Schedules[0].Event) != `{"a":[1]}` || fn.Schedules[1].Rate != "rate(5 minutes)" {
		t.Errorf("%s", rec.Body)
	}
	ticket, err := w.cfg.Door.Accept(t.Context(), intake.Call{
		Function: "first", Retries: &functions.Retries{Max: 1, Backoff: functions.Duration(time.Minute)}, MaxAge: time.Hour, OnFailure: []functions.Destination{},
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := w.do(t, "GET", "/v1/tasks/"+string(ticket.Task.ID), "")
	task := decode[struct {
		Retries   json.RawMessage         `json:"retries"`
		MaxAge    functions.Duration      `json:"max_age"`
		OnSuccess []functions.Destination `json:"on_success"`
		OnFailure []functions.Destination `json:"on_failure"`
	}](t, shown)
	if string(task.Retries) != `{"max":1,"backoff":"1m0s"}` || task.MaxAge.Std() != time.Hour || !slices.Equal(task.OnSuccess, fn.OnSuccess) || len(task.OnFailure) > 0 {
		t.Errorf("%s", shown.Body)
	}
	for body, field := range map[string]string{
		`"on_success":[{"function":"b","bucket":"x"}]`: "on_success[0].bucket",
		`"schedules":[{"rate":"often"}]`:               "schedules[0].rate",
	} {
		rec := w.do(t, "POST", "/v1/functions", `{"name":"first","image":"i",`+body+`}`)
		if p := decode[struct{ Field string }](t, rec); rec.Code != 400 || p.Field != field {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
}
