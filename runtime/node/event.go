package node

import (
	"encoding/json"

	"github.com/spillway/spillway/functions"
)

// The paths of the task contract, as the container sees them.
const (
	taskDir      = "/task"
	inputDir     = "/task/in"
	outputDir    = "/task/out"
	eventFile    = "/task/event.json"
	resultFile   = "/task/result.json"
	progressFile = "/task/progress"
)

// envelope is event.json.
type envelope struct {
	Task     functions.TaskID `json:"task"`
	Function functions.Name   `json:"function"`
	Attempt  int              `json:"attempt"`
	Event    json.RawMessage  `json:"event"`
	Inputs   []envelopeInput  `json:"inputs"`
	Params   json.RawMessage  `json:"params,omitempty"`
}

// envelopeInput names its keys as S3 events do.
type envelopeInput struct {
	Name        string `json:"name"`
	Path        string `json:"path,omitempty"` // empty for contracts that bring no files
	Bucket      string `json:"bucket,omitempty"`
	Key         string `json:"key,omitempty"`
	File        string `json:"file,omitempty"`
	URL         string `json:"url,omitempty"`
	VersionID   string `json:"versionId,omitempty"`
	ETag        string `json:"etag,omitempty"`
	Size        int64  `json:"size"`
	ContentType string `json:"contentType,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
}

func envelopeOf(as functions.Assignment, event []byte) envelope {
	e := envelope{
		Task: as.Task.ID, Function: as.Task.Function, Attempt: as.Attempt,
		Event: event, Inputs: []envelopeInput{}, Params: as.Task.Params,
	}
	for _, in := range as.Task.Inputs {
		e.Inputs = append(e.Inputs, envelopeInput{
			Name: in.Name, Path: inputDir + "/" + in.Name, Bucket: in.Bucket, Key: in.Key, File: in.File, URL: in.URL,
			VersionID: in.VersionID, ETag: in.ETag, Size: in.Size, ContentType: in.ContentType, SHA256: in.SHA256,
		})
	}
	return e
}
