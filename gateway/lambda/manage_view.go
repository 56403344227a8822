package lambda

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
)

// configuration is Lambda's FunctionConfiguration. A version that is in the
// registry takes calls, so its state is always Active.
type configuration struct {
	FunctionName        string
	FunctionArn         string
	Version             string
	Role                string
	Description         string
	PackageType         string
	CodeSha256          string
	CodeSize            int64 // 0: images are not stored here
	Timeout             int   // seconds
	MemorySize          int   // MB
	EphemeralStorage    storage
	Environment         *environment   `json:",omitempty"`
	ImageConfigResponse *imageResponse `json:",omitempty"`
	Architectures       []string
	LastModified        string
	RevisionId          string
	State               string
	LastUpdateStatus    string
}

type storage struct{ Size int } // MB

type environment struct{ Variables map[string]string }

type imageConfig struct {
	EntryPoint       []string `json:",omitempty"`
	Command          []string `json:",omitempty"`
	WorkingDirectory string   `json:",omitempty"`
}

type imageResponse struct{ ImageConfig imageConfig }

// modified is how Lambda writes LastModified.
const modified = "2006-01-02T15:04:05.000-0700"

// show writes h as the version that qualifier names; an empty one is the newest,
// under its plain name.
func show(region string, h resolved, qualifier string) configuration {
	c := configuration{
		FunctionName: string(h.Name), FunctionArn: ARN(region, h.Name, qualifier), Version: strconv.Itoa(h.Version),
		Role: h.settings.Role, Description: h.Description, PackageType: "Image", CodeSha256: codeSum(h.Image),
		Timeout:          int((h.Timeout.Std() + time.Second - 1) / time.Second),
		MemorySize:       megabytes(h.Limits.Memory),
		EphemeralStorage: storage{megabytes(h.Limits.Disk)},
		Architectures:    []string{architecture()},
		LastModified:     h.CreatedAt.UTC().Format(modified),
		RevisionId:       h.revisionID(),
		State:            "Active", LastUpdateStatus: "Successful",
	}
	if qualifier == "" || qualifier == latest {
		c.Version = latest
	}
	if env := shownEnv(h); len(env) > 0 {
		c.Environment = &environment{env}
	}
	if len(h.Entrypoint)+len(h.Command) > 0 {
		c.ImageConfigResponse = &imageResponse{imageConfig{EntryPoint: h.Entrypoint, Command: h.Command}}
	}
	return c
}

// numbered writes h under its own number.
func numbered(region string, h resolved) configuration {
	return show(region, h, strconv.Itoa(h.Version))
}

// shownEnv leaves out what a tag put there: clients compare the rest with what
// they asked for.
func shownEnv(h resolved) map[string]string {
	env := maps.Clone(h.Env)
	if _, tagged := option(h.settings.Tags, "concurrency"); tagged {
		delete(env, concurrencyEnv)
	}
	return env
}

// revisionID changes with every change of the function's code or configuration.
func (h resolved) revisionID() string {
	return revisionOf(string(h.Name), strconv.Itoa(h.Version), h.CreatedAt.UTC().Format(time.RFC3339Nano), h.settings.Role)
}

// revisionOf writes a sum of parts as clients expect it, in the form of a UUID.
func revisionOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// codeSum is the digest of an image that is named by it. Of another it is a sum
// of the name: which image that is, each node learns when it pulls.
func codeSum(image string) string {
	if digest := digestOf(image); digest != "" {
		return digest
	}
	sum := sha256.Sum256([]byte(image))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func digestOf(image string) string {
	_, digest, ok := strings.Cut(image, "@sha256:")
	if sum, err := hex.DecodeString(digest); !ok || err != nil || len(sum) != sha256.Size {
		return ""
	}
	return digest
}

func megabytes(b functions.Bytes) int { return int((b + functions.MiB - 1) / functions.MiB) }

// architecture is Lambda's word for what this server runs on.
func architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}
