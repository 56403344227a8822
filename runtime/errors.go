package runtime

import "github.com/spillway/spillway/functions"

// LaunchError is a Create or Start that the engine refused.
type LaunchError struct {
	Stage   string // StageCreate, StageStart
	Message string // the engine's own words; Classify reads them
	Hung    bool   // no answer before the deadline; the engine may still start it
	Err     error
}

// The stages of a launch.
const (
	StageCreate = "create"
	StageStart  = "start"
)

func (e *LaunchError) Error() string { return e.Stage + " container: " + e.Message }
func (e *LaunchError) Unwrap() error { return e.Err }

// ImageMissing says which image is not there.
func ImageMissing(image string) *functions.Error {
	return functions.NotFound("image_missing", "image %s is not on the node", image).
		WithHint("check the image's name, and that the node can pull it or has it loaded")
}

// ContainerMissing says which container is not there.
func ContainerMissing(id ID) *functions.Error {
	return functions.NotFound("container_missing", "there is no container %s", id)
}

// NotStarted says which container has no exit to wait for.
func NotStarted(id ID) *functions.Error {
	return functions.Conflict("not_started", "container %s was never started", id)
}

// NameInUse says which name another container has.
func NameInUse(name string) *functions.Error {
	return functions.Conflict("name_in_use", "the container name %q is already in use", name)
}
