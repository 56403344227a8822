// Package objects keeps files in an S3 store: MinIO, the embedded store, or any
// other that speaks the protocol.
//
// An object's life here: Put streams it in and returns its ObjectRef, with the
// SHA-256 taken while the bytes passed; or a client sends it with a request that
// PresignPut signed, or a form that PresignPost signed, and Stat says what
// arrived; or in parts, of which NewMultipart begins an upload, PresignPart signs
// each, Parts lists what came and CompleteMultipart makes the object. Stage brings it to a node's
// disk, checked against the ObjectRef: an object that was replaced since is a
// conflict, never a silent other content. Get streams it out, or a client
// fetches it with a request that PresignGet signed. Delete ends it.
//
// Errors are of the functions classes: ErrNotFound (no such object or bucket),
// ErrConflict (the object is not the one that the ObjectRef names),
// ErrForbidden (the key pair is wrong or lacks a right), ErrInvalid (the
// request can never work) and ErrUnavailable (the store does not answer).
package objects
