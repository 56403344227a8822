// Package cli is the command line's client side: every command is one or a few
// calls to the gateway's HTTP API, and knows nothing else of Spillway.
//
// Standard output is the answer, standard error is everything else. With
// -o json, jsonl, yaml or name nothing decorates either stream. Exit codes are
// listed at ExitCode.
package cli
