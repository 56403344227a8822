// Package ingest turns objects that appear in a store into tasks.
//
// Whatever learns of a new object makes a Hint of it and calls Offer: the
// embedded store's own report, MinIO's webhook (Hook), and the listing that Run
// repeats. A hint carries no authority. Offer asks the store what is really
// there, finds the functions whose triggers match, and accepts one task for
// each, through the door that every other entrance uses. The task's key is the
// object's identity, so that any number of hints, in any order and from any
// number of servers, start one task for each function and object version:
//
//	s3|bucket|key|version        in a bucket that keeps versions
//	s3|bucket|key|etag|size      in any other
//
// Hints may be lost; they only make it fast. What makes it sure is Run: it lists
// the triggered buckets at start and every minute, and offers what has no task.
//
// An object in the uploads bucket under in/<task id>/ is not a trigger's but the
// file that this task waits for: Offer then tells the door that it arrived. Those
// whose hint was lost are found by the gateway's sweep of awaiting tasks.
package ingest
