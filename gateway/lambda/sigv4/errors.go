package sigv4

import (
	"fmt"
	"net/http"
)

// Error is a refusal in AWS's words.
type Error struct {
	Code    string // AWS's name of the error, such as InvalidSignatureException
	Message string
	Status  int // of HTTP
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func missing() *Error {
	return &Error{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token", Status: http.StatusForbidden}
}

func unrecognized() *Error {
	return &Error{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid.", Status: http.StatusForbidden}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: "InvalidSignatureException", Message: fmt.Sprintf(format, args...), Status: http.StatusForbidden}
}

// incomplete is for what does not have the form of a signed request.
func incomplete(format string, args ...any) *Error {
	return &Error{Code: "IncompleteSignatureException", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}
