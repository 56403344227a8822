package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/intake"
)

// kept is a registry and its settings in memory. fault, if set, may fail a write
// of settings.
type kept struct {
	mu       sync.Mutex // guards the fields below
	versions map[functions.Name][]functions.Function
	deleted  map[functions.Name]bool
	settings map[functions.Name]functions.LambdaSettings
	revs     map[functions.Name]uint64
	fault    func() error
}

func newKept() *kept {
	return &kept{
		versions: map[functions.Name][]functions.Function{}, deleted: map[functions.Name]bool{},
		settings: map[functions.Name]functions.LambdaSettings{}, revs: map[functions.Name]uint64{},
	}
}

func (k *kept) Deploy(_ context.Context, spec functions.Spec) (functions.Function, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return functions.Function{}, false, err
	}
	had := k.versions[spec.Name]
	if n := len(had); n > 0 && !k.deleted[spec.Name] && asJSON(had[n-1].Spec) == asJSON(spec) {
		return had[n-1], false, nil
	}
	f := functions.Function{Spec: spec, Version: len(had) + 1, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}
	k.versions[spec.Name], k.deleted[spec.Name] = append(had, f), false
	return f, true, nil
}

func (k *kept) Latest(name functions.Name) (functions.Function, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if had := k.versions[name]; len(had) > 0 && !k.deleted[name] {
		return had[len(had)-1], nil
	}
	return functions.Function{}, functions.NotFound("no_function", "there is no function %q", name)
}

func (k *kept) Version(name functions.Name, v int) (functions.Function, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if had := k.versions[name]; v >= 1 && v <= len(had) {
		return had[v-1], nil
	}
	return functions.Function{}, functions.NotFound("no_version", "function %q has no version %d", name, v)
}

func (k *kept) Versions(name functions.Name) []functions.Function {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.versions[name])
}

func (k *kept) List() []functions.Function {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []functions.Function
	for _, name := range slices.Sorted(maps.Keys(k.versions)) {
		if had := k.versions[name]; !k.deleted[name] {
			all = append(all, had[len(had)-1])
		}
	}
	return all
}

func (k *kept) Delete(_ context.Context, name functions.Name) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deleted[name] = true
	delete(k.settings, name)
	delete(k.revs, name)
	return nil
}

// keptSettings is the other interface of kept.
type keptSettings struct{ *kept }

func (k keptSettings) Get(_ context.Context, fn functions.Name) (functions.LambdaSettings, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.settings[fn], k.revs[fn], nil
}

func (k keptSettings) Put(_ context.Context, fn functions.Name, s functions.LambdaSettings, rev uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		if err := k.fault(); err != nil {
			return err
		}
	}
	if rev != k.revs[fn] {
		return functions.Conflict("settings_changed", "changed meanwhile")
	}
	k.settings[fn] = s
	k.revs[fn]++
	return nil
}

// ids is a door that takes nothing in.
type ids struct{}

func (ids) NewID() functions.TaskID { return "0199c1f0-0000-7000-8000-000000000000" }

func (ids) Accept(context.Context, intake.Call) (intake.Ticket, error) {
	return intake.Ticket{}, functions.Unavailable("closed", "no tasks are taken here")
}

// managed is the API over a registry, for calls that manage functions.
func managed(registry Registry, settings Settings) http.Handler {
	api := New(Config{
		Door: ids{}, Functions: registry, Registry: registry, Settings: settings,
		Trust: func(*http.Request) bool { return true },
		Now:   func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC) },
	})
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	api.Routes(func(method, path string, h http.HandlerFunc) { m.HandleFunc(path, h).Methods(method) })
	return m
}

// manager sends calls to a registry in memory.
type manager struct {
	*kept
	h http.Handler
}

func newManager() manager {
	k := newKept()
	return manager{k, managed(k, keptSettings{k})}
}

func (m manager) do(method, path, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	m.h.ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
	return rec
}

// must sends a call that is carried out, and returns its answer.
func (m manager) must(t testing.TB, method, path, body string) map[string]any {
	t.Helper()
	rec := m.do(method, path, body)
	if rec.Code >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	got := map[string]any{}
	if rec.Body.Len() > 0 {
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, rec.Body)
		}
	}
	return got
}

// refuse sends a call that is not carried out, and checks the code and words of
// the answer.
func (m manager) refuse(t testing.TB, method, path, body, code, word string) {
	t.Helper()
	before := asJSON([]any{m.versions, m.settings, m.deleted})
	rec := m.do(method, path, body)
	if got := rec.Header().Get("X-Amzn-ErrorType"); got != code || rec.Code != shapes[code].status || !strings.Contains(rec.Body.String(), word) {
		t.Errorf("%s %s %s:\n%d %s %s\nwant %s with %q", method, path, body, rec.Code, got, rec.Body, code, word)
	}
	if after := asJSON([]any{m.versions, m.settings, m.deleted}); after != before {
		t.Errorf("%s %s: a refused call changed %s\nto %s", method, path, before, after)
	}
}

func (m manager) create(t testing.TB, name, more string) map[string]any {
	t.Helper()
	return m.must(t, "POST", functionsPath, fmt.Sprintf(`{"FunctionName":%q,"PackageType":"Image","Code":{"ImageUri":"registry/f:1"},"Role":"arn:aws:iam::000000000000:role/r"%s}`, name, more))
}

func (m manager) spec(t testing.TB, name functions.Name) functions.Spec {
	t.Helper()
	f, err := m.Latest(name)
	if err != nil {
		t.Fatal(err)
	}
	return f.Spec
}

const functionsPath = "/2015-03-31/functions"

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
