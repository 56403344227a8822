package wire

import (
	"errors"
	"reflect"
	"testing"
)

func TestMessages(t *testing.T) {
	hello := Hello{V: 1, Descriptors: []string{NameAPI, NameConn, NameConn}}
	orders := Orders{V: 1, Argv: []string{"/box", "", "a=b\nc"}, Env: []string{"A=1", "EMPTY="}, Dir: "/tmp", Exec: true}
	report := Report{Exit: 137, Signal: 9, MaxRSS: 1 << 40, UserUS: 1, SystemUS: 2, Left: true, Error: "exec: \"a\"\nwhy"}

	text, err := hello.Append(nil)
	if got, perr := ParseHello(text); err != nil || perr != nil || !reflect.DeepEqual(got, hello) {
		t.Errorf("hello came back as %+v: %v, %v", got, err, perr)
	}
	text, err = orders.Append(nil)
	if got, perr := ParseOrders(text); err != nil || perr != nil || !reflect.DeepEqual(got, orders) {
		t.Errorf("orders came back as %+v: %v, %v", got, err, perr)
	}
	text, err = report.Append(nil)
	if got, perr := ParseReport(text); err != nil || perr != nil || got != report {
		t.Errorf("report came back as %+v: %v, %v", got, err, perr)
	}
	if _, err := (Orders{Argv: []string{"a\x00b"}}).Append(nil); !errors.Is(err, ErrFields) {
		t.Errorf("a NUL byte in an argument: %v, want it refused", err)
	}
	for _, bad := range []string{"v=1", "v=x\x00", "v\x00", "\x00", "v=1\x00fd"} {
		if _, err := ParseHello([]byte(bad)); !errors.Is(err, ErrFields) {
			t.Errorf("%q: %v, want it refused", bad, err)
		}
	}
	if got, err := ParseHello([]byte("v=1\x00new=thing\x00")); err != nil || got.V != 1 {
		t.Errorf("a name that is not known: %+v, %v, want it passed over", got, err)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte("v=1\x00fd=api\x00argv=a\x00exit=3\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if h, err := ParseHello(text); err == nil {
			again, err := h.Append(nil)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			if got, err := ParseHello(again); err != nil || !reflect.DeepEqual(got, h) {
				t.Errorf("%+v came back as %+v, %v", h, got, err)
			}
		}
		if o, err := ParseOrders(text); err == nil {
			again, _ := o.Append(nil)
			if got, err := ParseOrders(again); err != nil || !reflect.DeepEqual(got, o) {
				t.Errorf("%+v came back as %+v, %v", o, got, err)
			}
		}
		if r, err := ParseReport(text); err == nil {
			again, _ := r.Append(nil)
			if got, err := ParseReport(again); err != nil || got != r {
				t.Errorf("%+v came back as %+v, %v", r, got, err)
			}
		}
	})
}
