package main

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/spec"
)

func TestWarmMemory(t *testing.T) {
	room := functions.Resources{Memory: 10 * functions.GiB}
	for text, want := range map[string]functions.Bytes{"": functions.GiB, "0": 0, "3GiB": 3 * functions.GiB} {
		if got, err := warmMemory(NodeConfig{WarmMemory: text}, room); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, err, want)
		}
	}
	if _, err := warmMemory(NodeConfig{WarmMemory: "6GiB"}, room); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("most of the room: %v", err)
	}
}

func TestWarmInASpec(t *testing.T) {
	for text, want := range map[string]functions.Warm{"4": 4, "auto": functions.WarmAuto, "0": 0} {
		if s, err := spec.Parse([]byte("name: f\nimage: i\nwarm: " + text + "\n")); err != nil || s.Warm != want {
			t.Errorf("warm: %s: %d, %v", text, s.Warm, err)
		}
	}
	if _, err := spec.Parse([]byte("name: f\nimage: i\nwarm: 2000\n")); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("warm: 2000: %v", err)
	}
}
