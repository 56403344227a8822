package functions

import "time"

// LambdaSettings are what AWS Lambda's API keeps of a function beside its
// versions. They are the function's, not a version's: a deploy leaves them alone.
type LambdaSettings struct {
	// First is the first version of this function; earlier ones belong to a
	// deleted function of the same name. 0 means that all are this function's.
	First int `json:"first,omitempty"`

	Aliases     map[string]Alias  `json:"aliases,omitempty"`
	Async       AsyncConfig       `json:"async,omitzero"`
	Concurrency *int              `json:"concurrency,omitempty"` // 0 refuses every call; nil leaves it to the spec, which has any other number
	Role        string            `json:"role,omitempty"`        // ARN that the client gave
	Tags        map[string]string `json:"tags,omitempty"`
}

// Alias names a version.
type Alias struct {
	Version     int    `json:"version,omitempty"` // 0 = the newest, $LATEST
	Description string `json:"description,omitempty"`
}

// AsyncConfig is how a function's asynchronous calls are retried, and who is
// told of their ends. It is zero when none was set.
type AsyncConfig struct {
	MaximumRetryAttempts *int      `json:"maximum_retry_attempts,omitempty"` // nil = not said, which Lambda takes for 2
	MaximumEventAge      Duration  `json:"maximum_event_age,omitempty"`      // 0 = not said
	OnSuccess            string    `json:"on_success,omitempty"`             // ARN of a function, or arn:aws:s3:::BUCKET
	OnFailure            string    `json:"on_failure,omitempty"`             // as OnSuccess
	LastModified         time.Time `json:"last_modified,omitzero"`           // zero when no configuration was set
}
