package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
)

// aboutModel stands over the table of the model, so that nobody takes it for more
// than it is.
const aboutModel = `A model of Whisper's shape and real size, with random weights: it says nothing, and does the work of one that does. From sound to
log-mel features, through two convolutions and an encoder over windows of 30 s, to a decoder that makes 10 tokens for each 3 s, one at a
time, greedy, with a cache. 32-bit floats on both devices, one window at a time; on the GPU with kernels of our own, without tensor cores; on
the CPU with OpenBLAS on all cores. "Task" is the run of the container as Spillway saw it, loading included; "heard" is without loading.
Where there are several runs the middle one counts.`

func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("# On a GPU machine\n\nWritten by `e2e/gpu/run`. " + fmt.Sprintf("%d checks, %d failed.\n\n", len(r.checks), r.failed()))
	for _, l := range r.lines {
		fmt.Fprintf(&b, "- %s\n", l)
	}
	r.devices(&b)
	r.slotTable(&b)
	b.WriteString("\n## Checks\n\n")
	table(&b, "|runtime|what|result|seen|")
	for _, c := range r.checks {
		row(&b, cmp.Or(c.runtime, "-"), c.what, mark(c.ok), short(c.saw))
	}
	r.launchTable(&b)
	r.modelTable(&b)
	return b.String()
}

func (r *report) devices(b *strings.Builder) {
	if r.reading == nil {
		return
	}
	fmt.Fprintf(b, "\n## What the probe reads\n\nSource %s, driver %s, CUDA %s.\n\n", r.reading.Source, r.reading.Driver, r.reading.CUDA)
	table(b, "|index|model|UUID|MIG profile|memory|used|free|utilisation, %|can|uncorrected ECC errors|")
	for _, d := range r.reading.Devices {
		row(b, d.Index, d.Model, d.UUID, cmp.Or(d.Profile, "-"), d.Total, d.Used, d.Free, number(d.Utilisation), cmp.Or(strings.Join(d.Can, " "), "-"), number(d.ECC))
	}
}

// number is a number that -1 stands for when it is not known.
func number[T int | int64](n T) string {
	if n < 0 {
		return "unknown"
	}
	return fmt.Sprint(n)
}

func (r *report) slotTable(b *strings.Builder) {
	if len(r.nodes) == 0 {
		return
	}
	b.WriteString("\n## What the node offers\n\n")
	table(b, "|runtime|engine|GPU|model|known by|memory|free|state|")
	for _, n := range r.nodes {
		known := "its probe"
		if n.assumed {
			known = "--assume-gpu"
		}
		for _, g := range n.status.GPUs {
			row(b, n.runtime, n.status.Engine, g.UUID, cmp.Or(g.Model, "-"), known, size(g.Memory), size(g.Free), g.State)
		}
	}
}

func size(n functions.Bytes) string {
	if n == 0 {
		return "unknown"
	}
	return n.String()
}

func (r *report) launchTable(b *strings.Builder) {
	if len(r.launches) == 0 {
		return
	}
	b.WriteString("\n## Launch times\n\nA program that ends at once, one task at a time. \"Launch\" is from the order to create the container to its start; \"whole\" is from acceptance to end. Milliseconds.\n\n")
	table(b, "|runtime|attempt|n|launch p50|p90|p99|whole p50|p90|p99|")
	for _, l := range r.launches {
		row(b, l.runtime, l.kind, l.launch.N, ms(l.launch.P50), ms(l.launch.P90), ms(l.launch.P99), ms(l.whole.P50), ms(l.whole.P90), ms(l.whole.P99))
	}
}

func ms(x float64) string { return fmt.Sprintf("%.1f", x) }

func (r *report) modelTable(b *strings.Builder) {
	if len(r.models) == 0 {
		return
	}
	b.WriteString("\n## A transcription, on the GPU and on the CPU\n\n" + aboutModel + "\n\n")
	table(b, "|model|sound, s|device|runs|task, s|heard, s|load, s|encoder, s|decoder, s|tokens|encoder's level|")
	for _, m := range r.models {
		for _, d := range []struct {
			name string
			runs int
			h    heard
		}{{"GPU", m.gpuRuns, m.gpu}, {"CPU", m.cpuRuns, m.cpu}} {
			row(b, m.model, m.seconds, d.name+": "+d.h.Name, d.runs, seconds(d.h.run), seconds(d.h.Hear), seconds(d.h.Load),
				seconds(d.h.Encode), seconds(d.h.Decode), d.h.Tokens, fmt.Sprintf("%.4f", d.h.Level))
		}
	}
	b.WriteString("\nThe level, the mean of the encoder's output, must be the same on both: then they have computed the same.\n\n")
	table(b, "|model|sound, s|the CPU takes so many times as long: task|heard|")
	for _, m := range r.models {
		row(b, m.model, m.seconds, ratio(m.cpu.run, m.gpu.run), ratio(m.cpu.Hear, m.gpu.Hear))
	}
}

func seconds(x float64) string { return fmt.Sprintf("%.3f", x) }

func ratio(a, b float64) string {
	if b <= 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f", a/b)
}

func table(b *strings.Builder, head string) {
	fmt.Fprintf(b, "%s\n|%s\n", head, strings.Repeat("---|", strings.Count(head, "|")-1))
}

func row(b *strings.Builder, cells ...any) {
	for _, c := range cells {
		fmt.Fprintf(b, "|%v", c)
	}
	b.WriteString("|\n")
}
