// Package task lets a Go program be a function under the task contract. It
// imports the standard library only, so a function of one file stays small.
//
// A container lives for one attempt of one task. It finds its call in the file
// that TASK_EVENT_FILE names, its input files under TASK_INPUT_DIR, and the
// device it was given in TASK_DEVICE. It leaves files under TASK_OUTPUT_DIR and
// one JSON document, its result, in TASK_RESULT_FILE; then it exits. The exit
// code says what should follow: see Code.
//
//	func main() {
//		task.Main(func(t *task.Task) (any, error) {
//			return map[string]string{"hello": t.Function}, nil
//		})
//	}
//
// Without these variables the program runs by hand: the event comes on
// standard input and the result goes to standard output.
package task
