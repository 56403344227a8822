package main

import (
	"context"
	"fmt"
	"time"
)

// respawn measures, on the real engine, from Docker's refusal of the GPU to the
// start of the CPU attempt.
func (b *bench) respawn(ctx context.Context) error {
	var gap, refusal []float64
	one := func(i int) error {
		// A fresh process each time: a host that failed twice is not asked again at once.
		srv, err := b.serve(ctx, fmt.Sprintf("respawn-%d", i), "--assume-gpu", "1")
		if err != nil {
			return err
		}
		defer srv.Stop(20 * time.Second)
		if _, err := srv.CLI(ctx, "deploy", "functions/catalog/echo"); err != nil {
			return err
		}
		id, err := srv.Submit(ctx, "echo", `{"n":1}`, map[string]string{"Spillway-Device": "preferred"})
		if err != nil {
			return err
		}
		task, err := srv.WaitTask(ctx, id)
		if err != nil {
			return err
		}
		if len(task.Attempts) != 2 || task.Attempts[1].Failure != nil {
			return fmt.Errorf("want one failed GPU attempt and one good on the CPU, have %+v", task.Attempts)
		}
		gpu, cpu := task.Attempts[0], task.Attempts[1]
		gap = append(gap, ms(cpu.StartedAt.Sub(gpu.EndedAt)))
		for _, p := range gpu.Phases {
			if p.Phase == "launch" {
				refusal = append(refusal, p.MS)
			}
		}
		return nil
	}
	for i := range 12 {
		if err := one(i); err != nil {
			return err
		}
	}
	b.spread("Docker's own refusal of the GPU launch", refusal)
	b.spread("refusal in the log to CPU attempt assigned", gap)
	return nil
}
