package gpu

import (
	"fmt"
	"testing"
	"time"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

func TestUnsuitedImages(t *testing.T) {
	rigged(t, Config{}, []probe.Device{cardOf("a", 0, 24*gib)}, func(r *rig) {
		r.Remember("x:1", "needs CUDA 13.1")
		time.Sleep(time.Hour)
		r.Remember("b:1", "needs driver 590")
		r.Remember("b:1", "needs driver 590.1")
		if why, ok := r.Unsuited("x:1"); !ok || why != "needs CUDA 13.1" {
			t.Errorf("x:1: %q, %v", why, ok)
		}
		if why, ok := r.Unsuited("y:1"); ok {
			t.Errorf("y:1: %q", why)
		}
		if u := r.Host().Unsuited; len(u) != 2 || u[0].Image != "b:1" || u[0].Reason != "needs driver 590.1" || u[1].Reason != "needs CUDA 13.1" || time.Until(u[1].Until) != 23*time.Hour {
			t.Errorf("the host says %+v", u)
		}
		time.Sleep(23 * time.Hour)
		if _, ok := r.Unsuited("x:1"); ok {
			t.Error("remembered for more than a day")
		}
		r.Driver = "590.1"
		r.read()
		if _, ok := r.Unsuited("b:1"); ok {
			t.Error("remembered of another driver")
		}
		for i := range 2 * unsuitedMost {
			r.Remember(fmt.Sprint("i", i/2), "twice")
			r.Remember(fmt.Sprint("i", i), "needs")
		}
		if n := len(r.Host().Unsuited); n != unsuitedMost {
			t.Errorf("%d images", n)
		}
		if _, ok := r.Unsuited(fmt.Sprint("i", 2*unsuitedMost-1)); !ok {
			t.Error("the last one was not kept")
		}
	})
}
