package lambda

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// Account is the one account that there is.
const Account = "000000000000"

// latest is the qualifier of the newest version.
const latest = "$LATEST"

// maxQualifier is the most bytes of an alias.
const maxQualifier = 128

// target is what a caller named: a function, and which one of it. An empty
// qualifier means the newest version.
type target struct {
	Name      functions.Name
	Qualifier string
}

// parseTarget reads a function name as clients write it in a path: NAME,
// ACCOUNT:function:NAME or a full ARN, each with :QUALIFIER or without. The
// qualifier of the query must agree with it. Account, region and partition are
// read and not compared: there is one account here, and an ARN that a client
// brought from elsewhere names the same function.
func parseTarget(escapedName, qualifier string) (target, *apiError) {
	raw, err := url.PathUnescape(escapedName)
	if err != nil || len(raw) > 300 {
		return target{}, badName(escapedName)
	}
	parts := strings.Split(raw, ":")
	if len(parts) >= 7 {
		if !isARN(parts) {
			return target{}, badName(raw)
		}
		parts = parts[4:]
	}
	if len(parts) >= 3 {
		if !isAccount(parts[0]) || parts[1] != "function" {
			return target{}, badName(raw)
		}
		parts = parts[2:]
	}
	t := target{Name: functions.Name(parts[0])}
	if len(parts) > 2 || t.Name.Validate() != nil {
		return target{}, badName(raw)
	}
	if len(parts) == 2 {
		if !isQualifier(parts[1]) {
			return target{}, badName(raw)
		}
		t.Qualifier = parts[1]
	}
	switch {
	case qualifier == "":
	case !isQualifier(qualifier):
		return target{}, problem(codeValidation, "1 validation error detected: Value '%.140s' at 'qualifier' failed to satisfy constraint: "+
			"Member must be $LATEST, a version number or the name of an alias", qualifier)
	case t.Qualifier != "" && t.Qualifier != qualifier:
		return target{}, problem(codeInvalidParameter, "The derived qualifier from the function name does not match the specified qualifier.")
	default:
		t.Qualifier = qualifier
	}
	return t, nil
}

func badName(raw string) *apiError {
	return problem(codeValidation, "1 validation error detected: Value '%.140s' at 'functionName' failed to satisfy constraint: "+
		"Member must be a function name, ACCOUNT:function:NAME or arn:aws:lambda:REGION:ACCOUNT:function:NAME, with or without :QUALIFIER; "+
		"a name is 1 to 64 letters, digits, '-' or '_', starting with a letter or digit", raw)
}

// isARN checks arn:PARTITION:lambda:REGION, the head of a full name.
func isARN(parts []string) bool {
	return parts[0] == "arn" && (parts[1] == "aws" || strings.HasPrefix(parts[1], "aws-") && isWord(parts[1])) &&
		parts[2] == "lambda" && isWord(parts[3])
}

func isAccount(s string) bool { return len(s) == 12 && isNumber(s) }

// isQualifier reports whether s can be $LATEST, a version or an alias.
func isQualifier(s string) bool { return s == latest || len(s) <= maxQualifier && isWord(s) }

// isAlias reports whether s can be the name of an alias: a number is a version.
func isAlias(s string) bool { return s != latest && isQualifier(s) && !isNumber(s) }

func isWord(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// version is the number that t names. It is false for an alias; 0 means the newest.
func (t target) version() (n int, ok bool) {
	if t.Qualifier == "" || t.Qualifier == latest {
		return 0, true
	}
	if !isNumber(t.Qualifier) {
		return 0, false
	}
	n, err := strconv.Atoi(t.Qualifier)
	if err != nil || n == 0 {
		n = -1 // there is no such version
	}
	return n, true
}

// ARN is the full name of a function to clients in a region. qualifier may be empty.
func ARN(region string, name functions.Name, qualifier string) string {
	arn := fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", region, Account, name)
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}
