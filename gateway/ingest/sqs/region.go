package sqs

import (
	"net/url"
	"strings"
)

// defaultRegion signs requests to stand-ins, which do not look at it.
const defaultRegion = "us-east-1"

// regionOf reads the region from a queue's URL: sqs.<region>.amazonaws.com, or
// <region>.queue.amazonaws.com of old.
func regionOf(queue string) string {
	u, err := url.Parse(queue)
	if err != nil {
		return defaultRegion
	}
	labels := strings.Split(u.Hostname(), ".")
	switch {
	case len(labels) >= 4 && labels[0] == "sqs" && labels[2] == "amazonaws":
		return labels[1]
	case len(labels) >= 4 && labels[1] == "queue" && labels[2] == "amazonaws":
		return labels[0]
	}
	return defaultRegion
}
