package serve

import (
	"fmt"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// APIAddress is where a container finds the Runtime API. Runtimes want a plain
// IPv4 address and port.
const APIAddress = "127.0.0.1:9001"

// region is what SDKs need to be told, and what nothing depends on.
const region = "us-east-1"

// LambdaEnv are the variables that AWS Lambda promises to a program. instance
// tells containers of one function apart. AWS's own images take _HANDLER from
// their command.
func LambdaEnv(f functions.Function, s functions.Spec, instance string) map[string]string {
	return map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          APIAddress,
		"AWS_LAMBDA_FUNCTION_NAME":        string(f.Name),
		"AWS_LAMBDA_FUNCTION_VERSION":     strconv.Itoa(f.Version),
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.FormatInt(int64(s.Limits.Memory/functions.MiB), 10),
		"AWS_LAMBDA_FUNCTION_TIMEOUT":     strconv.FormatInt(int64(s.Timeout.Std().Seconds()), 10),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + string(f.Name),
		"AWS_LAMBDA_LOG_STREAM_NAME":      instance,
		"AWS_LAMBDA_LOG_FORMAT":           "Text",
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"TZ":                              ":UTC",
		"LAMBDA_TASK_ROOT":                "/var/task",
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
	}
}

// ARN is the name by which AWS's libraries know a function.
func ARN(f functions.Function) string {
	return fmt.Sprintf("arn:aws:lambda:%s:000000000000:function:%s:%d", region, f.Name, f.Version)
}

// HTTPEnv are the variables of a server. AWS's and Knative's names are there
// because images look for them.
func HTTPEnv(f functions.Function, s functions.Spec) map[string]string {
	port := strconv.Itoa(s.HTTP.Port)
	return map[string]string{
		"PORT":                     port,
		"AWS_LAMBDA_HTTP_ENDPOINT": "127.0.0.1:" + port,
		"K_SERVICE":                string(f.Name),
		"K_REVISION":               fmt.Sprintf("%s-%d", f.Name, f.Version),
	}
}
