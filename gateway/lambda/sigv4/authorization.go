package sigv4

import (
	"encoding/hex"
	"slices"
	"strings"
)

// authorization is what an Authorization header says.
type authorization struct {
	accessKeyID   string
	date          string // yyyymmdd
	region        string
	service       string
	signedHeaders string // as sent, names in lower case and in order, between semicolons
	signature     []byte
}

// scope is what the signing key is good for, as it is signed.
func (a authorization) scope() string {
	return strings.Join([]string{a.date, a.region, a.service, terminator}, "/")
}

// readAuthorization reads the values of the Authorization headers of a request to
// service.
func readAuthorization(sent []string, service string) (authorization, *Error) {
	a := authorization{service: service}
	if len(sent) == 0 || sent[0] == "" {
		return a, missing()
	}
	if len(sent) > 1 {
		return a, incomplete("The request has more than one Authorization header.")
	}
	name, rest, _ := strings.Cut(sent[0], " ")
	if name != algorithm {
		return a, incomplete("Unsupported AWS 'algorithm': '%s'. Sign with %s.", name, algorithm)
	}
	parts, err := readParts(rest)
	if err != nil {
		return a, err
	}
	if err := a.readCredential(parts["Credential"]); err != nil {
		return a, err
	}
	if err := a.readSignedHeaders(parts["SignedHeaders"]); err != nil {
		return a, err
	}
	err = a.readSignature(parts["Signature"])
	return a, err
}

// readParts splits "Credential=..., SignedHeaders=..., Signature=...".
func readParts(s string) (map[string]string, *Error) {
	parts := map[string]string{"Credential": "", "SignedHeaders": "", "Signature": ""}
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		if !ok {
			return nil, incomplete("'%s' not a valid key=value pair (missing equal-sign) in Authorization header.", part)
		}
		old, known := parts[key]
		if !known || old != "" {
			return nil, incomplete("Authorization header has an unknown or repeated parameter '%s'.", key)
		}
		parts[key] = value
	}
	for _, key := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parts[key] == "" {
			return nil, incomplete("Authorization header requires '%s' parameter.", key)
		}
	}
	return parts, nil
}

// readCredential reads KEY/yyyymmdd/region/service/aws4_request.
func (a *authorization) readCredential(s string) *Error {
	f := strings.Split(s, "/")
	if len(f) != 5 || f[0] == "" {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", s)
	}
	switch a.accessKeyID, a.date, a.region = f[0], f[1], f[2]; {
	case f[4] != terminator:
		return invalid("Credential should be scoped with a valid terminator: '%s', not '%s'.", terminator, f[4])
	case f[3] != a.service:
		return invalid("Credential should be scoped to correct service: '%s'.", a.service)
	case !isRegion(a.region):
		return invalid("Credential should be scoped to a valid region, not '%s'.", a.region)
	}
	return nil
}

func isRegion(s string) bool {
	notOfRegion := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, notOfRegion)
}

func (a *authorization) readSignedHeaders(s string) *Error {
	names := strings.Split(s, ";")
	for i, name := range names {
		if name == "" || strings.ToLower(name) != name || i > 0 && names[i-1] >= name {
			return incomplete("SignedHeaders must be names in lower case, sorted and each once, got '%s'.", s)
		}
	}
	if !slices.Contains(names, "host") {
		return invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !slices.Contains(names, "x-amz-date") {
		return invalid("'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	a.signedHeaders = s
	return nil
}

func (a *authorization) readSignature(s string) *Error {
	sig, err := hex.DecodeString(s)
	if err != nil || len(sig) != 32 || strings.ToLower(s) != s {
		return incomplete("Signature must be 64 hexadecimal digits in lower case, got '%s'.", s)
	}
	a.signature = sig
	return nil
}
