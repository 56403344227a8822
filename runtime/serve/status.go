package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spillway/spillway/functions"
)

// mostWords is how much of an answer that tells of an error is kept.
const mostWords = 1 << 10

// judge says what a status means; nil is success.
func judge(res *http.Response, body []byte) *Fault {
	status := res.StatusCode
	class := functions.ExitError
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		class = functions.TempFail
	case status/100 == 4:
		class = functions.Permanent
	case status/100 == 3:
		f := fault(functions.Permanent, "the server redirects to %q; an invocation is not sent elsewhere", clip([]byte(res.Header.Get("Location")), 256))
		f.Type = typeOf(status)
		return f
	}
	f := fault(class, "the server answered %d %s", status, http.StatusText(status))
	f.Type = typeOf(status)
	body = bytes.TrimSpace(body)
	if own, ok := complaintOf(body); ok {
		f.Message += ": " + own.message
		if own.kind != "" {
			f.Type = own.kind
		}
	} else if len(body) > 0 {
		f.Message += ": " + clip(body, mostWords)
	}
	return f
}

func typeOf(status int) string { return fmt.Sprintf("Http.%d", status) }

// complaint is an error in a function's own words.
type complaint struct{ kind, message string }

// complaintOf reads the JSON in which Lambda runtimes, and many servers, write
// their errors. JSON of another form is the message as it stands.
func complaintOf(body []byte) (complaint, bool) {
	if !json.Valid(body) || !bytes.HasPrefix(body, []byte("{")) {
		return complaint{}, false
	}
	var c struct {
		ErrorType    any `json:"errorType"`
		ErrorMessage any `json:"errorMessage"`
	}
	_ = json.Unmarshal(body, &c) // it is valid, and any takes every value
	kind, _ := c.ErrorType.(string)
	message, ok := c.ErrorMessage.(string)
	if !ok {
		message = string(body)
	}
	return complaint{kind: clip([]byte(kind), 256), message: clip([]byte(strings.TrimSpace(message)), 4*mostWords)}, true
}

func tooLarge(n int) *Fault {
	f := fault(functions.Permanent, "the event has %d bytes, and at most %d can be handed out", n, MostBody)
	f.Hint = "store it as an object and name that in the event"
	f.Delivered = false
	return f
}

func answerTooLarge() *Fault {
	f := fault(functions.BadOutput, "the answer is over %d bytes", MostBody)
	f.Type, f.Hint = "Function.ResponseSizeTooLarge", "store it as an object and answer with its name"
	return f
}
