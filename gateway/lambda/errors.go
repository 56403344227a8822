package lambda

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/functions"
)

// The error codes of AWS Lambda that we answer with. SDKs make typed exceptions
// of them.
const (
	codeInvalidParameter  = "InvalidParameterValueException"
	codeInvalidContent    = "InvalidRequestContentException"
	codeValidation        = "ValidationException"
	codeMissingToken      = "MissingAuthenticationTokenException"
	codeUnknownClient     = "UnrecognizedClientException"
	codeInvalidSignature  = "InvalidSignatureException"
	codeAccessDenied      = "AccessDeniedException"
	codeNotFound          = "ResourceNotFoundException"
	codeUnknownOperation  = "UnknownOperationException"
	codeConflict          = "ResourceConflictException"
	codePrecondition      = "PreconditionFailedException"
	codeTooLarge          = "RequestTooLargeException"
	codeTooManyRequests   = "TooManyRequestsException"
	codeService           = "ServiceException"
	codeNotReady          = "ResourceNotReadyException"
	reasonConcurrency     = "ConcurrentInvocationLimitExceeded"
	reasonReserved        = "ReservedFunctionConcurrentInvocationLimitExceeded"
	typeUser, typeService = "User", "Service"
)

// shape is how AWS's model writes an error: its status, who is to blame (empty
// where the model has no such member), and whether the text is in Message.
type shape struct {
	status int
	typ    string
	upper  bool
}

var shapes = map[string]shape{
	codeInvalidParameter: {http.StatusBadRequest, typeUser, false},
	codeInvalidContent:   {http.StatusBadRequest, typeUser, false},
	codeValidation:       {http.StatusBadRequest, "", false},
	codeMissingToken:     {http.StatusForbidden, "", false},
	codeUnknownClient:    {http.StatusForbidden, "", false},
	codeInvalidSignature: {http.StatusForbidden, "", false},
	codeAccessDenied:     {http.StatusForbidden, "", true},
	codeNotFound:         {http.StatusNotFound, typeUser, true},
	codeUnknownOperation: {http.StatusNotFound, "", true},
	codeConflict:         {http.StatusConflict, typeUser, false},
	codePrecondition:     {http.StatusPreconditionFailed, typeUser, false},
	codeTooLarge:         {http.StatusRequestEntityTooLarge, typeUser, false},
	codeTooManyRequests:  {http.StatusTooManyRequests, typeUser, false},
	codeService:          {http.StatusInternalServerError, typeService, true},
	codeNotReady:         {http.StatusBadGateway, typeService, false},
}

// apiError is a call that was not carried out, in AWS's words.
type apiError struct {
	status  int
	code    string
	message string
	typ     string // User, Service or empty
	reason  string // of a TooManyRequestsException
	cause   error  // for our log; may be nil
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.message + ": " + e.cause.Error()
	}
	return e.code + ": " + e.message
}

func (e *apiError) Unwrap() error { return e.cause }

// problem makes the error of one code. A code without a shape is a 400.
func problem(code, format string, args ...any) *apiError {
	s, ok := shapes[code]
	if !ok {
		s = shape{status: http.StatusBadRequest}
	}
	return &apiError{status: s.status, code: code, typ: s.typ, message: fmt.Sprintf(format, args...)}
}

// throttled is a call that finds no room; SDKs send it again by themselves.
func throttled(reason, format string, args ...any) *apiError {
	e := problem(codeTooManyRequests, format, args...)
	e.reason = reason
	return e
}

// notFound is a function, version or alias that there is not.
func notFound(arn string) *apiError { return problem(codeNotFound, "Function not found: %s", arn) }

// classes maps our classes of error to AWS's codes, the first that fits.
var classes = []struct {
	class error
	code  string
}{
	{functions.ErrTooLarge, codeTooLarge},
	{functions.ErrInvalid, codeInvalidParameter},
	{functions.ErrNotFound, codeNotFound},
	{functions.ErrConflict, codeConflict},
	{functions.ErrThrottled, codeTooManyRequests},
	{functions.ErrForbidden, codeAccessDenied},
}

// problemOf turns an error of ours into AWS's words. The text of an internal one
// is for our log alone.
func problemOf(err error) *apiError {
	var done *apiError
	if errors.As(err, &done) {
		return done
	}
	code := codeService
	for _, c := range classes {
		if errors.Is(err, c.class) {
			code = c.code
			break
		}
	}
	message := "The service could not answer. Try again."
	var known *functions.Error
	if errors.As(err, &known) {
		message = known.Message
		if known.Hint != "" {
			message += ". " + known.Hint
		}
	}
	e := problem(code, "%s", message)
	e.cause = err
	if code == codeTooManyRequests {
		e.reason = reasonConcurrency
	}
	return e
}

// fail answers e. The code is in a header too, which is where SDKs look first.
func fail(w http.ResponseWriter, e *apiError) {
	name := "message"
	if shapes[e.code].upper {
		name = "Message"
	}
	body := map[string]string{name: e.message}
	if e.typ != "" {
		body["Type"] = e.typ
	}
	h := w.Header()
	if e.code == codeTooManyRequests {
		h.Set("Retry-After", "1")
		if e.reason != "" {
			body["Reason"] = e.reason
		}
	}
	h.Set("X-Amzn-ErrorType", e.code)
	answer(w, e.status, body)
}

// answer writes a JSON body.
func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // of our own types, which always can
		panic(fmt.Sprintf("lambda: write an answer: %v", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that left needs no answer
}
