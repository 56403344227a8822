package lambda

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
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
