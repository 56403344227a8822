package lambda

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions"
)

func TestConfigurationOfEvents(t *testing.T) {
	at, zero := time.Unix(1, 0), 0
	type wants struct {
		Retries   *functions.Retries
		MaxAge    time.Duration
		OnSuccess []functions.Destination
		OnFailure []functions.Destination
	}
	for name, c := range map[string]struct {
		mode  string
		async functions.AsyncConfig
		want  wants
	}{
		"none":  {"Event", functions.AsyncConfig{}, wants{}},
		"empty": {"Event", functions.AsyncConfig{LastModified: at}, wants{Retries: &functions.Retries{Max: 2, Backoff: functions.Duration(time.Minute)}}},
		"all": {"Event", functions.AsyncConfig{
			LastModified: at, MaximumRetryAttempts: &zero, MaximumEventAge: functions.Duration(time.Minute),
			OnSuccess: "arn:aws:lambda:eu-west-1:000000000000:function:next", OnFailure: "arn:aws:s3:::failures",
		}, wants{&functions.Retries{Backoff: functions.Duration(time.Minute)}, time.Minute, []functions.Destination{{Function: "next"}}, []functions.Destination{{Bucket: "failures"}}}},
		"not of a synchronous call": {"RequestResponse", functions.AsyncConfig{LastModified: at, MaximumRetryAttempts: &zero, OnFailure: "arn:aws:s3:::failures"}, wants{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.settings["echo"] = functions.LambdaSettings{Async: c.async}
			if rec := w.invoke(t, "{}", typeHeader, c.mode); rec.Code >= 300 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			task := w.only(t)
			if diff := cmp.Diff(c.want, wants{task.Retries, task.MaxAge.Std(), task.OnSuccess, task.OnFailure}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
