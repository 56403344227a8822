package functions

import (
	"errors"
	"testing"
)

func TestServedSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		field  string // that the error names; empty = valid
	}{
		"http":                   {func(s *Spec) { s.Contract = HTTPContract }, ""},
		"http with all":          {func(s *Spec) { s.HTTP = &HTTPSpec{Port: 1, Path: "/a?b=c", Health: "/ok", Concurrency: 1000} }, ""},
		"lambda":                 {func(s *Spec) { s.Contract = LambdaContract }, ""},
		"lambda at once":         {func(s *Spec) { s.Contract, s.Env = LambdaContract, map[string]string{concurrencyEnv: "8"} }, ""},
		"reuse forever":          {func(s *Spec) { s.Reuse = ReuseForever }, ""},
		"reuse of a task":        {func(s *Spec) { s.Contract, s.Reuse = TaskContract, 2 }, "reuse"},
		"reuse under forever":    {func(s *Spec) { s.Reuse = -2 }, "reuse"},
		"warm":                   {func(s *Spec) { s.Warm = 1 }, "warm"},
		"http of a task":         {func(s *Spec) { s.Contract, s.HTTP = TaskContract, &HTTPSpec{} }, "http"},
		"http of a lambda":       {func(s *Spec) { s.Contract, s.HTTP = LambdaContract, &HTTPSpec{} }, "http"},
		"port":                   {func(s *Spec) { s.HTTP = &HTTPSpec{Port: 65536} }, "http.port"},
		"negative port":          {func(s *Spec) { s.HTTP = &HTTPSpec{Port: -1} }, "http.port"},
		"path":                   {func(s *Spec) { s.HTTP = &HTTPSpec{Path: "a"} }, "http.path"},
		"path of another host":   {func(s *Spec) { s.HTTP = &HTTPSpec{Path: "//host/a"} }, "http.path"},
		"path with a line break": {func(s *Spec) { s.HTTP = &HTTPSpec{Path: "/a\r\nX: y"} }, "http.path"},
		"health":                 {func(s *Spec) { s.HTTP = &HTTPSpec{Health: "/a b"} }, "http.health"},
		"concurrency":            {func(s *Spec) { s.HTTP = &HTTPSpec{Concurrency: 1001} }, "http.concurrency"},
		"stdout":                 {func(s *Spec) { s.Stdout = StdoutResult }, "stdout"},
		"placeholder":            {func(s *Spec) { s.Command = []string{"serve", "--dir={out}"} }, "command"},
		"placeholder of a name":  {func(s *Spec) { s.Entrypoint = []string{"x", "{in.cat.png}"} }, "entrypoint"},
		"placeholder on the CPU": {func(s *Spec) { s.CPUProfile = &CPUProfile{Command: []string{"{in}"}} }, "cpu_profile.command"},
		"JSON in a command":      {func(s *Spec) { s.Command = []string{`{"in": 1}`} }, ""},
		"PORT":                   {func(s *Spec) { s.Env = map[string]string{"PORT": "1"} }, "env"},
		"PORT on the CPU":        {func(s *Spec) { s.CPUProfile = &CPUProfile{Env: map[string]string{"PORT": "1"}} }, "cpu_profile.env"},
		"API of a lambda": {func(s *Spec) {
			s.Contract, s.Env = LambdaContract, map[string]string{"AWS_LAMBDA_RUNTIME_API": "x"}
		}, "env"},
		"at once, not a number": {func(s *Spec) { s.Contract, s.Env = LambdaContract, map[string]string{concurrencyEnv: "many"} }, "env"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Spec{Name: "server", Image: "image", Contract: HTTPContract}
			c.change(&s)
			err := s.WithDefaults().Validate()
			var e *Error
			switch {
			case c.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.field != "" && (!errors.As(err, &e) || e.Field != c.field):
				t.Errorf("got %v, want a refusal of %s", err, c.field)
			}
		})
	}
}

func TestDefaultsOfHTTPLeaveTheSpecAlone(t *testing.T) {
	given := &HTTPSpec{Path: "/run"}
	got := Spec{Contract: HTTPContract, HTTP: given}.WithDefaults()
	if want := (HTTPSpec{Port: 8080, Path: "/run", Concurrency: 1}); *got.HTTP != want {
		t.Errorf("got %+v, want %+v", *got.HTTP, want)
	}
	if *given != (HTTPSpec{Path: "/run"}) {
		t.Errorf("the caller's spec was changed to %+v", *given)
	}
	if s := (Spec{Contract: TaskContract}).WithDefaults(); s.HTTP != nil {
		t.Errorf("a task function got %+v", *s.HTTP)
	}
}

func TestAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		spec Spec
		want int
	}{
		"http":        {Spec{Contract: HTTPContract, HTTP: &HTTPSpec{Concurrency: 7}}, 7},
		"http alone":  {Spec{Contract: HTTPContract}, 1},
		"lambda":      {Spec{Contract: LambdaContract, Env: map[string]string{concurrencyEnv: "5"}}, 5},
		"lambda, one": {Spec{Contract: LambdaContract}, 1},
		"task":        {Spec{Contract: TaskContract, Env: map[string]string{concurrencyEnv: "5"}}, 1},
	} {
		if got := c.spec.WithDefaults().AtOnce(); got != c.want {
			t.Errorf("%s: %d at once, want %d", name, got, c.want)
		}
	}
}
