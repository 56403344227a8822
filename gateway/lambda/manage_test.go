package lambda

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
)

func TestCreateRefusesWhatIsNotServed(t *testing.T) {
	m := newManager()
	m.create(t, "taken", "")
	const rest = `"PackageType":"Image","Code":{"ImageUri":"i"}`
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ body, code, word string }{
		{`{`, codeInvalidContent, "JSON"},
		{`{"FunctionName":7,` + rest + `}`, codeInvalidContent, "FunctionName"},
		{`[]`, codeInvalidContent, "json"},
		{`{"FunctionName":"f",` + rest + `} {}`, codeInvalidContent, "after top-level value"},
		{`{"FunctionName":"f",` + rest + `,"Colour":"red"}`, codeInvalidParameter, "Colour is not a member"},
		{`{"FunctionName":"f","PackageType":"Image","Code":{"ImageUri":"i","Colour":1}}`, codeInvalidParameter, "Colour"},
		{`{` + rest + `}`, codeValidation, "functionName"},
		{`{"FunctionName":"no name",` + rest + `}`, codeValidation, "functionName"},
		{`{"FunctionName":"` + long + `",` + rest + `}`, codeValidation, "functionName"},
		{`{"FunctionName":"f:live",` + rest + `}`, codeInvalidParameter, "qualifier"},
		{`{"FunctionName":"taken",` + rest + `}`, codeConflict, "already exist"},
		{`{"FunctionName":"f","PackageType":"Zip","Code":{"ZipFile":"UEsDBA=="},"Runtime":"python3.12","Handler":"a.b"}`, codeInvalidParameter, "leave it out"},
		{`{"FunctionName":"f","PackageType":"Zip","Code":{"ZipFile":"UEsDBA=="}}`, codeInvalidParameter, "use PackageType Image"},
		{`{"FunctionName":"f","Code":{"ImageUri":"i"}}`, codeInvalidParameter, "use PackageType Image"},
		{`{"FunctionName":"f","PackageType":"Image"}`, codeInvalidParameter, "ImageUri"},
		{`{"FunctionName":"f","PackageType":"Image","Code":null}`, codeInvalidParameter, "ImageUri"},
		{`{"FunctionName":"f","PackageType":"Image","Code":{"S3Bucket":"b"}}`, codeInvalidParameter, "S3Bucket"},
		{`{"FunctionName":"f",` + rest + `,"Timeout":0}`, codeValidation, "timeout"},
		{`{"FunctionName":"f",` + rest + `,"Timeout":86401}`, codeValidation, "timeout"},
		{`{"FunctionName":"f",` + rest + `,"Timeout":1.5}`, codeInvalidContent, "Timeout"},
		{`{"FunctionName":"f",` + rest + `,"MemorySize":127}`, codeValidation, "memorySize"},
		{`{"FunctionName":"f",` + rest + `,"MemorySize":99999999999999999999}`, codeInvalidContent, "MemorySize"},
		{`{"FunctionName":"f",` + rest + `,"EphemeralStorage":{"Size":1}}`, codeValidation, "ephemeralStorage"},
		{`{"FunctionName":"f",` + rest + `,"Role":"me"}`, codeValidation, "role"},
		{`{"FunctionName":"f",` + rest + `,"Description":"` + long + `"}`, codeValidation, "description"},
		{`{"FunctionName":"f",` + rest + `,"Environment":{"Variables":{"A":"` + strings.Repeat("x", maxEnvironment) + `"}}}`, codeInvalidParameter, "environment"},
		{`{"FunctionName":"f",` + rest + `,"Environment":{"Variables":{"TASK_ID":"x"}}}`, codeInvalidParameter, "TASK_ID"},
		{`{"FunctionName":"f",` + rest + `,"ImageConfig":{"WorkingDirectory":"/x"}}`, codeInvalidParameter, "WORKDIR"},
		{`{"FunctionName":"f",` + rest + `,"Architectures":["mips"]}`, codeInvalidParameter, "Architectures"},
		{`{"FunctionName":"f",` + rest + `,"VpcConfig":{"SubnetIds":["s"]}}`, codeInvalidParameter, "spillway:network=egress"},
		{`{"FunctionName":"f",` + rest + `,"DeadLetterConfig":{"TargetArn":"arn:aws:sqs:r:000000000000:q"}}`, codeInvalidParameter, "OnFailure"},
		{`{"FunctionName":"f",` + rest + `,"AcceleratorConfig":{"AcceleratorMemorySize":0}}`, codeValidation, "accelerator"},
		{`{"FunctionName":"f",` + rest + `,"Tags":{"rt:gpu":"none"},"AcceleratorConfig":{"AcceleratorMemorySize":16}}`, codeInvalidParameter, "AcceleratorConfig"},
		{`{"FunctionName":"f",` + rest + `,"Tags":{"rt:contract":"cog"}}`, codeInvalidParameter, "lambda, http or task"},
		{`{"FunctionName":"f",` + rest + `,"Tags":{"rt:contract":"task","rt:reuse":"0"}}`, codeInvalidParameter, "reuse"},
	} {
		m.refuse(t, "POST", functionsPath, c.body, c.code, c.word)
	}
}

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

func TestChangesOfWhatIsNotThere(t *testing.T) {
	m := newManager()
	for _, rt := range New(Config{}).manageRoutes() {
		path := strings.NewReplacer("{name}", "none", "{alias}", "a", "{slash:/?}", "").Replace(rt.path)
		if path == rt.path || path == functionsPath || strings.Contains(path, "account-settings") {
			continue
		}
		body := map[string]string{
			"POST aliases": `{"Name":"a","FunctionVersion":"1"}`, "PUT code": `{"ImageUri":"i"}`, "POST event-invoke-config": `{"MaximumRetryAttempts":1}`,
			"PUT event-invoke-config": `{"MaximumRetryAttempts":1}`, "PUT concurrency": `{"ReservedConcurrentExecutions":1}`, "POST none": `{"Tags":{"a":"b"}}`,
		}[rt.method+" "+path[strings.LastIndex(path, "/")+1:]]
		m.refuse(t, rt.method, path+"?tagKeys=a", body, codeNotFound, "none")
	}
}

func TestChangesRefuseNonsense(t *testing.T) {
	m := newManager()
	m.create(t, "f", "")
	m.must(t, "POST", "/2015-03-31/functions/f/aliases", `{"Name":"live","FunctionVersion":"1"}`)
	const (
		f     = "/2015-03-31/functions/f"
		async = "/2019-09-25/functions/f/event-invoke-config"
		conc  = "/2017-10-31/functions/f/concurrency"
		tags  = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f"
	)
	for _, c := range []struct{ method, path, body, code, word string }{
		{"GET", functionsPath + "/a%20b", "", codeValidation, "functionName"},
		{"GET", f + "?Qualifier=7", "", codeNotFound, "f:7"},
		{"GET", f + "?Qualifier=0", "", codeNotFound, "f:0"},
		{"GET", f + "?Qualifier=nobody", "", codeNotFound, "f:nobody"},
		{"GET", f + "?Qualifier=a.b", "", codeValidation, "qualifier"},
		{"DELETE", f + "?Qualifier=1", "", codeInvalidParameter, "versions are kept"},
		{"GET", functionsPath + "?MaxItems=0", "", codeValidation, "maxItems"},
		{"GET", functionsPath + "?MaxItems=many", "", codeValidation, "maxItems"},
		{"GET", functionsPath + "?Marker=***", "", codeInvalidParameter, "NextMarker"},
		{"GET", functionsPath + "?FunctionVersion=SOME", "", codeValidation, "functionVersion"},
		{"PUT", f + "/code", `{}`, codeInvalidParameter, "ImageUri"},
		{"PUT", f + "/code", `{"ZipFile":"UEsDBA=="}`, codeInvalidParameter, "PackageType Image"},
		{"PUT", f + "/code", `{"ImageUri":"i","RevisionId":"old"}`, codePrecondition, "old"},
		{"PUT", f + "/code?Qualifier=1", `{"ImageUri":"i"}`, codeInvalidParameter, "qualifier"},
		{"PUT", f + "/configuration", `{"Timeout":-1}`, codeValidation, "timeout"},
		{"PUT", f + "/configuration", `{"Runtime":"nodejs22.x"}`, codeInvalidParameter, "Runtime"},
		{"PUT", f + "/configuration", `{"Timeout":9,"RevisionId":"old"}`, codePrecondition, "old"},
		{"PUT", f + "/configuration", `{"Role":"arn:aws:iam::000000000000:role/r","Environment":{"Variables":{"":"x"}}}`, codeInvalidParameter, "variable name"},
		{"POST", f + "/versions", `{"CodeSha256":"x"}`, codeInvalidParameter, "CodeSHA256"},
		{"POST", f + "/versions", `{"RevisionId":"old"}`, codePrecondition, "old"},
		{"POST", f + "/aliases", `{"FunctionVersion":"1"}`, codeValidation, "name"},
		{"POST", f + "/aliases", `{"Name":"12","FunctionVersion":"1"}`, codeValidation, "name"},
		{"POST", f + "/aliases", `{"Name":"a"}`, codeValidation, "functionVersion"},
		{"POST", f + "/aliases", `{"Name":"a","FunctionVersion":"live"}`, codeValidation, "functionVersion"},
		{"POST", f + "/aliases", `{"Name":"a","FunctionVersion":"2"}`, codeNotFound, "f:2"},
		{"POST", f + "/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}`, codeInvalidParameter, "RoutingConfig"},
		{"PUT", f + "/aliases/live", `{"RevisionId":"old"}`, codePrecondition, "old"},
		{"PUT", f + "/aliases/gone", `{}`, codeNotFound, "gone"},
		{"PUT", conc, `{}`, codeValidation, "null"},
		{"PUT", conc, `{"ReservedConcurrentExecutions":-1}`, codeValidation, "reserved"},
		{"PUT", async, `{}`, codeInvalidParameter, "at least one"},
		{"PUT", async, `{"MaximumRetryAttempts":3}`, codeValidation, "maximumRetryAttempts"},
		{"PUT", async, `{"MaximumRetryAttempts":-1}`, codeValidation, "maximumRetryAttempts"},
		{"PUT", async, `{"MaximumEventAgeInSeconds":59}`, codeValidation, "maximumEventAge"},
		{"PUT", async, `{"MaximumEventAgeInSeconds":21601}`, codeValidation, "maximumEventAge"},
		{"PUT", async + "?Qualifier=live", `{"MaximumRetryAttempts":1}`, codeInvalidParameter, "qualifier"},
		{"PUT", async, onFailure("arn:aws:sqs:us-east-1:000000000000:q"), codeInvalidParameter, "queues"},
		{"PUT", async, onFailure("arn:aws:s3:::No"), codeInvalidParameter, "bucket"},
		{"PUT", async, onFailure(ARN("us-east-1", "nobody", "")), codeInvalidParameter, "deploy it first"},
		{"PUT", async, onFailure(ARN("us-east-1", "f", "live")), codeInvalidParameter, "qualifier"},
		{"PUT", async, onFailure("arn:aws:lambda:x"), codeInvalidParameter, "not the ARN"},
		{"POST", async, `{"MaximumRetryAttempts":1}`, codeNotFound, "EventInvokeConfig"},
		{"POST", tags, `{}`, codeInvalidParameter, "Tags"},
		{"POST", tags, `{"Tags":{"aws:x":"y"}}`, codeInvalidParameter, "reserved"},
		{"POST", tags, `{"Tags":{"":"y"}}`, codeValidation, "tags"},
		{"POST", tags, `{"Tags":{"x":"` + strings.Repeat("y", 257) + `"}}`, codeValidation, "tags"},
		{"POST", tags, `{"Tags":{"rt:gpus":"1"}}`, codeInvalidParameter, "no such setting"},
		{"POST", tags, `{"Tags":{"rt:gpu":"1","spillway:gpu":"2"}}`, codeInvalidParameter, "something else"},
		{"POST", tags, `{"Tags":{"rt:gpu":"-1"}}`, codeInvalidParameter, "how many"},
		{"POST", tags, `{"Tags":{"rt:gpu":"65"}}`, codeInvalidParameter, "gpu.count"},
		{"POST", tags, `{"Tags":{"rt:gpu-memory":"NaN"}}`, codeInvalidParameter, "GB"},
		{"POST", tags, `{"Tags":{"rt:reuse":"300"}}`, codeInvalidParameter, "forever"},
		{"POST", tags, `{"Tags":{"rt:network":"all"}}`, codeInvalidParameter, "egress"},
		{"POST", tags, `{"Tags":{"rt:concurrency":"0"}}`, codeInvalidParameter, "at once"},
		{"POST", tags, `{"Tags":{"rt:concurrency":"1001"}}`, codeInvalidParameter, "1000"},
		{"DELETE", tags, "", codeInvalidParameter, "tagKeys"},
		{"GET", "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f:1", "", codeInvalidParameter, "qualifier"},
	} {
		m.refuse(t, c.method, c.path, c.body, c.code, c.word)
	}
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = ""
	}
	m.refuse(t, "POST", tags, asJSON(map[string]any{"Tags": many}), codeInvalidParameter, "at most 50")
}

func onFailure(arn string) string {
	return asJSON(map[string]any{"DestinationConfig": map[string]any{"OnFailure": map[string]string{"Destination": arn}}})
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

// FuzzManage: no body makes a call fail on our side.
func FuzzManage(f *testing.F) {
	routes := New(Config{}).manageRoutes()
	for i := range routes {
		f.Add(i, `{"FunctionName":"g","PackageType":"Image","Code":{"ImageUri":"i"}}`, "Qualifier=1&MaxItems=1&tagKeys=rt:gpu")
		f.Add(i, `{"Name":"a","FunctionVersion":"$LATEST","ImageUri":"i","Tags":{"rt:gpu":"1"}}`, "")
		f.Add(i, `{"MaximumRetryAttempts":1,"DestinationConfig":{"OnSuccess":null,"OnFailure":{}},"ReservedConcurrentExecutions":3}`, "Marker=Zg")
	}
	f.Fuzz(func(t *testing.T, i int, body, query string) {
		m := newManager()
		m.create(t, "f", `,"Tags":{"rt:gpu":"1","x":"y"}`)
		rt := routes[uint(i)%uint(len(routes))]
		path := strings.NewReplacer("{name}", "f", "{alias}", "live", "{slash:/?}", "").Replace(rt.path)
		if values, err := url.ParseQuery(query); err == nil {
			path += "?" + values.Encode()
		}
		if rec := m.do(rt.method, path, body); rec.Code >= 500 {
			t.Errorf("%s %s %q: %d %s", rt.method, path, body, rec.Code, rec.Body)
		}
	})
}
