package main

import (
	"context"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/tasklog"
)

// TestDeletedFunctionLeavesNoSettings: the next function of the name begins anew.
func TestDeletedFunctionLeavesNoSettings(t *testing.T) {
	engine, err := tasklog.StartServer(t.Context(), tasklog.ServerConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Shutdown()
	log, err := tasklog.Open(t.Context(), tasklog.Config{Server: engine, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d := &deployer{}
	if d.Registry, err = log.Registry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.settings, err = log.LambdaSettings(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-d.Ready()

	if _, _, err := d.Deploy(t.Context(), functions.Spec{Name: "f", Image: "i"}); err != nil {
		t.Fatal(err)
	}
	if err := d.settings.Put(t.Context(), "f", functions.LambdaSettings{Role: "r"}, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	have, rev, err := d.settings.Get(t.Context(), "f")
	if err != nil || rev != 0 || have.Role != "" {
		t.Errorf("%+v, revision %d, %v", have, rev, err)
	}
}
