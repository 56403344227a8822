package functions

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// usualPort is the port of an http function that names none.
	usualPort = 8080
	// mostAtOnce is the most invocations at once in one container.
	mostAtOnce = 1000
	// concurrencyEnv is by which a Lambda runtime is told how many invocations it
	// may take at once.
	concurrencyEnv = "AWS_LAMBDA_MAX_CONCURRENCY"
)

// AtOnce is how many invocations one container of s serves at the same time. An
// http function says it in http.concurrency, a lambda function in the variable
// by which its runtime is told, AWS_LAMBDA_MAX_CONCURRENCY.
func (s Spec) AtOnce() int {
	n := 1
	switch {
	case s.Contract == HTTPContract && s.HTTP != nil:
		n = s.HTTP.Concurrency
	case s.Contract == LambdaContract:
		n, _ = strconv.Atoi(s.Env[concurrencyEnv]) // Validate has refused what is no number
	}
	return max(1, n)
}

// withDefaults fills a copy.
func (h *HTTPSpec) withDefaults() *HTTPSpec {
	var filled HTTPSpec
	if h != nil {
		filled = *h
	}
	if filled.Port == 0 {
		filled.Port = usualPort
	}
	if filled.Path == "" {
		filled.Path = "/"
	}
	if filled.Concurrency == 0 {
		filled.Concurrency = 1
	}
	return &filled
}

// filePlaceholder is what only the task contract fills in.
var filePlaceholder = regexp.MustCompile(`\{(in|out|task|in\.[^{}]+)\}`)

// servedFault names the field of s that its contract does not allow, and why;
// empty when all is well.
func (s Spec) servedFault() (field, why string) {
	switch s.Contract {
	case TaskContract, HTTPContract, LambdaContract:
	default:
		return "contract", fmt.Sprintf("%q is not a contract; use task, http or lambda", trim(string(s.Contract)))
	}
	if s.HTTP != nil && s.Contract != HTTPContract {
		return "http", "is for functions of contract http"
	}
	if !s.Contract.Serves() {
		if s.Reuse != 0 {
			return "reuse", "is for functions of contract http or lambda; a container of contract task runs one task"
		}
		return "", ""
	}
	switch {
	case s.Reuse < ReuseForever:
		return "reuse", "is negative"
	case s.Warm != 0:
		return "warm", "is for functions of contract task; containers of http and lambda functions wait after their first task (reuse)"
	case s.Stdout == StdoutResult:
		return "stdout", "is log for contracts http and lambda: their result is the answer"
	}
	commands := map[string][]string{"entrypoint": s.Entrypoint, "command": s.Command}
	if p := s.CPUProfile; p != nil {
		commands["cpu_profile.entrypoint"], commands["cpu_profile.command"] = p.Entrypoint, p.Command
	}
	for _, field := range []string{"entrypoint", "command", "cpu_profile.entrypoint", "cpu_profile.command"} {
		if i := slices.IndexFunc(commands[field], filePlaceholder.MatchString); i >= 0 {
			return field, fmt.Sprintf("holds %s, and a container that serves many tasks has no files of one", filePlaceholder.FindString(commands[field][i]))
		}
	}
	envs := map[string]map[string]string{"env": s.Env}
	if s.CPUProfile != nil {
		envs["cpu_profile.env"] = s.CPUProfile.Env
	}
	for _, field := range []string{"env", "cpu_profile.env"} {
		if why := s.servedEnv(envs[field]); why != "" {
			return field, why
		}
	}
	if s.Contract == HTTPContract {
		return s.HTTP.fault()
	}
	return "", ""
}

// servedEnv says what is wrong with the variables of an http or lambda function.
func (s Spec) servedEnv(env map[string]string) string {
	if s.Contract == HTTPContract {
		if _, ok := env["PORT"]; ok {
			return "PORT is set by Spillway; say it in http.port"
		}
		return ""
	}
	if _, ok := env["AWS_LAMBDA_RUNTIME_API"]; ok {
		return "AWS_LAMBDA_RUNTIME_API is set by Spillway"
	}
	if text, ok := env[concurrencyEnv]; ok {
		if n, err := strconv.Atoi(text); err != nil || n < 1 || n > mostAtOnce {
			return fmt.Sprintf("%s is %q, and must be a number from 1 to %d", concurrencyEnv, trim(text), mostAtOnce)
		}
	}
	return ""
}

// fault is empty when h, which has its defaults, is right.
func (h *HTTPSpec) fault() (field, why string) {
	switch {
	case h == nil:
		return "http", "is missing"
	case h.Port < 1 || h.Port > 65535:
		return "http.port", fmt.Sprintf("%d is out of range 1 to 65535", h.Port)
	case !isPath(h.Path):
		return "http.path", fmt.Sprintf("%q is not a path that begins with a slash", trim(h.Path))
	case h.Health != "" && !isPath(h.Health):
		return "http.health", fmt.Sprintf("%q is not a path that begins with a slash", trim(h.Health))
	case h.Concurrency < 1 || h.Concurrency > mostAtOnce:
		return "http.concurrency", fmt.Sprintf("%d is out of range 1 to %d", h.Concurrency, mostAtOnce)
	}
	return "", ""
}

// isPath takes a path, and a query behind it.
func isPath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") &&
		!strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' })
}
