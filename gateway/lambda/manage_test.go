package lambda

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

func TestCreateTakesLambdasDefaults(t *testing.T) {
	m := newManager()
	m.create(t, "f", `,"VpcConfig":{},"Layers":[],"Handler":"","TracingConfig":{"Mode":"PassThrough"},"SnapStart":{"ApplyOn": "None"},"KMSKeyArn":null`)
	s := m.spec(t, "f")
	if s.Contract != functions.LambdaContract || s.Timeout.Std().Seconds() != 3 || s.Limits.Memory != 512*functions.MiB || s.Device != functions.Auto {
		t.Errorf("%+v", s)
	}
	m.create(t, "gpu", `,"AcceleratorConfig":{"AcceleratorMemorySize":16},"Publish":true`)
	if s := m.spec(t, "gpu"); s.Device != functions.Required || s.GPU.Memory != 16*functions.GiB {
		t.Errorf("%+v", s)
	}
	tags := m.must(t, "GET", "/2017-03-31/tags/"+url.PathEscape(ARN("eu-west-1", "gpu", "")), "")["Tags"]
	if asJSON(tags) != `{"spillway:gpu":"require","spillway:gpu-memory":"16"}` {
		t.Errorf("tags %v", tags)
	}
}

func TestVersionsAreMadeByChangesAlone(t *testing.T) {
	m := newManager()
	f := functionsPath + "/f"
	made := m.create(t, "f", "")
	same := m.must(t, "PUT", f+"/configuration", `{"Timeout":3}`)
	if same["RevisionId"] != made["RevisionId"] {
		t.Error("a change that changes nothing made another revision")
	}
	m.must(t, "PUT", f+"/code", `{"ImageUri":"registry/f:2","DryRun":true,"Publish":true}`)
	m.must(t, "POST", f+"/aliases", `{"Name":"live","FunctionVersion":"1"}`)
	m.must(t, "PUT", "/2017-10-31/functions/f/concurrency", `{"ReservedConcurrentExecutions":0}`)
	if got := m.must(t, "POST", f+"/versions", ""); got["Version"] != "1" || got["RevisionId"] != made["RevisionId"] {
		t.Errorf("published %v after no change", got)
	}
	if got := m.must(t, "POST", f+"/versions", `{"Description":"first"}`); got["Version"] != "2" || got["Description"] != "first" {
		t.Errorf("published %v with a description", got)
	}
	if got := m.must(t, "PUT", f+"/configuration", `{"Role":"arn:aws:iam::000000000000:role/other"}`); got["RevisionId"] == made["RevisionId"] || len(m.versions["f"]) != 2 {
		t.Errorf("another role: %v, %d versions", got, len(m.versions["f"]))
	}
	got := m.must(t, "GET", f+"/configuration?Qualifier=live", "")
	if got["Version"] != "1" || got["FunctionArn"] != ARN(defaultRegion, "f", "live") || got["LastModified"] != "2026-01-02T03:04:05.678+0000" {
		t.Errorf("%v", got)
	}
	list := m.must(t, "GET", functionsPath+"?FunctionVersion=ALL", "")["Functions"].([]any)
	var versions []string
	for _, v := range list {
		versions = append(versions, v.(map[string]any)["Version"].(string))
	}
	if fmt.Sprint(versions) != "[$LATEST 1 2]" {
		t.Errorf("all versions: %v", versions)
	}
}

// TestTagsOutliveANewEnvironment: the variable of a tag is the tag's, in answers too.
func TestTagsOutliveANewEnvironment(t *testing.T) {
	m := newManager()
	made := m.create(t, "f", `,"Tags":{"rt:concurrency":"4"}`)
	if made["Environment"] != nil {
		t.Errorf("environment %v", made["Environment"])
	}
	m.must(t, "PUT", functionsPath+"/f/configuration", `{"Environment":{"Variables":{"A":"b"}}}`)
	if s := m.spec(t, "f"); s.AtOnce() != 4 || s.Env["A"] != "b" {
		t.Errorf("env %v", s.Env)
	}
	m.must(t, "POST", "/2017-03-31/tags/f", `{"Tags":{"rt:contract":"http"}}`)
	if s := m.spec(t, "f"); s.HTTP == nil || s.HTTP.Concurrency != 4 || len(s.Env) != 1 {
		t.Errorf("as a server: %+v, env %v", s.HTTP, s.Env)
	}
}

// TestReservedConcurrencyIsTheSpecs, but for 0, which a spec cannot say.
func TestReservedConcurrencyIsTheSpecs(t *testing.T) {
	m := newManager()
	m.create(t, "f", "")
	const path = "/2017-10-31/functions/f/concurrency"
	want := func(ofSpec int, refuses bool) {
		t.Helper()
		n := m.settings["f"].Concurrency
		if s := m.spec(t, "f"); s.Concurrency != ofSpec || refuses != (n != nil && *n == 0) || !refuses && n != nil {
			t.Errorf("spec %d, settings %v; want %d, refuses %v", s.Concurrency, n, ofSpec, refuses)
		}
	}
	want(0, false)
	m.must(t, "PUT", path, `{"ReservedConcurrentExecutions":2}`)
	want(2, false)
	m.must(t, "PUT", path, `{"ReservedConcurrentExecutions":0}`)
	want(2, true)
	m.must(t, "PUT", path, `{"ReservedConcurrentExecutions":3}`)
	want(3, false)
	m.must(t, "DELETE", path, "")
	want(0, false)
}

// TestAChangeThatLosesIsMadeAgain: another server changed the settings between
// the reading and the writing.
func TestAChangeThatLosesIsMadeAgain(t *testing.T) {
	m := newManager()
	m.create(t, "f", "")
	lost := 0
	m.fault = func() error {
		if lost++; lost > 2 {
			return nil
		}
		m.settings["f"] = functions.LambdaSettings{First: 1, Tags: map[string]string{"other": fmt.Sprint(lost)}}
		m.revs["f"]++
		return nil
	}
	m.must(t, "POST", "/2017-03-31/tags/f", `{"Tags":{"mine":"x"}}`)
	if got := m.settings["f"].Tags; lost != 3 || got["mine"] != "x" || got["other"] != "2" {
		t.Errorf("%v after %d tries", got, lost)
	}
	m.fault = func() error { return functions.Unavailable("log_unavailable", "the task log does not answer") }
	m.refuse(t, "POST", "/2017-03-31/tags/f", `{"Tags":{"mine":"y","rt:gpu":"1"}}`, codeService, "the task log does not answer")
}

// TestChangesAtOnceLoseNothing: each of many clients raises one member.
func TestChangesAtOnceLoseNothing(t *testing.T) {
	m := newManager()
	m.create(t, "f", "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { m.must(t, "POST", "/2017-03-31/tags/f", fmt.Sprintf(`{"Tags":{"k%d":""}}`, i)) })
		wg.Go(func() {
			m.must(t, "POST", functionsPath+"/f/aliases", fmt.Sprintf(`{"Name":"a%d","FunctionVersion":"1"}`, i))
		})
	}
	for _, body := range []string{`{"Timeout":9}`, `{"MemorySize":256}`, `{"Description":"d"}`} {
		wg.Go(func() { m.must(t, "PUT", functionsPath+"/f/configuration", body) })
	}
	wg.Wait()
	s, l := m.spec(t, "f"), m.settings["f"]
	if len(l.Tags) != 8 || len(l.Aliases) != 8 || s.Timeout.Std().Seconds() != 9 || s.Limits.Memory != 256*functions.MiB || s.Description != "d" {
		t.Errorf("%+v, %+v", s, l)
	}
}

// TestPagesHoldEveryEntryOnce, whatever their size, while entries come and go.
func TestPagesHoldEveryEntryOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9-]{1,8}`), 0, 120, rapid.ID).Draw(r, "all")
		slices.Sort(all)
		size := rapid.IntRange(1, 60).Draw(r, "size")
		var seen []string
		for marker := ""; ; {
			q := &request{Request: httptest.NewRequest("GET", fmt.Sprintf("/?MaxItems=%d&Marker=%s", size, marker), nil)}
			part, next, e := page(q, all, func(s string) string { return s }, 10000)
			if e != nil || len(part) > min(size, maxPage) {
				r.Fatal(e, len(part))
			}
			if seen = append(seen, part...); next == "" {
				break
			}
			marker = next
			if len(part) > 1 && rapid.Bool().Draw(r, "one goes") { // of those that were shown, the marker's too
				all = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == part[len(part)-1] })
			}
		}
		if !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != len(seen) || !subset(all, seen) {
			r.Fatalf("%q of %q", seen, all)
		}
	})
}

func subset(all, seen []string) bool {
	return !slices.ContainsFunc(all, func(s string) bool { return !slices.Contains(seen, s) })
}

// TestUntaggingUndoesTagging for every setting and value.
func TestUntaggingUndoesTagging(t *testing.T) {
	values := map[string][]string{
		"contract": {"lambda", "http", "task"}, "gpu": {"none", "auto", "prefer", "require", "3"}, "gpu-memory": {"16", "0.5"},
		"reuse": {"0", "forever"}, "network": {"none", "egress"}, "concurrency": {"1", "12"},
	}
	rapid.Check(t, func(r *rapid.T) {
		plain := functions.Spec{Name: "f", Image: "i", Contract: functions.LambdaContract, Env: map[string]string{"A": "b"}}.WithDefaults()
		tags, keys := map[string]string{}, []string{}
		for name, all := range values {
			if v := rapid.SampledFrom(append([]string{""}, all...)).Draw(r, name); v != "" {
				key := rapid.SampledFrom(prefixes).Draw(r, "prefix") + name
				tags[key], keys = v, append(keys, key)
			}
		}
		s := plain
		e := applyTags(&s, tags, nil)
		if e != nil && tags["rt:concurrency"]+tags["spillway:concurrency"] != "12" {
			r.Fatal(e)
		}
		if asJSON(plain.Env) != `{"A":"b"}` {
			r.Fatal("tagging changed the spec that it was given")
		}
		if e := applyTags(&s, nil, keys); e != nil {
			r.Fatal(e)
		}
		if got, want := asJSON(s.WithDefaults()), asJSON(plain); got != want {
			r.Fatalf("%v left %s, want %s", tags, got, want)
		}
	})
}
