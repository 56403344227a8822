package main

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/spillway/spillway/functions"
)

func TestYoungTasksAreToldByTheirIds(t *testing.T) {
	now := time.Now()
	id := functions.TaskID(uuid.Must(uuid.NewV7()).String())
	if !young(id, now) {
		t.Errorf("%s was made just now", id)
	}
	if young(id, now.Add(2*youngTask)) {
		t.Errorf("%s is old by then", id)
	}
	for _, id := range []functions.TaskID{"", "x", "01a20a23", "00000000-0000-0000-0000-000000000000"} {
		if young(id, now) {
			t.Errorf("%q tells no time near now", id)
		}
	}
}
