package functions

import "time"

// Delivery is the telling of one end of a task to its webhook, or to its
// destinations: what was tried, and what is still to do.
type Delivery struct {
	ID        string        `json:"id"` // of the message: the same in every try
	Task      TaskID        `json:"task"`
	EndedAt   time.Time     `json:"ended_at"`       // tells one end of a task from another, after a retry
	URL       string        `json:"url,omitempty"`  // of the webhook
	Left      []Destination `json:"left,omitempty"` // destinations that do not have it yet
	CreatedAt time.Time     `json:"created_at"`
	Next      time.Time     `json:"next,omitzero"` // when it is tried; zero = not again
	Delivered time.Time     `json:"delivered,omitzero"`
	GaveUp    string        `json:"gave_up,omitempty"` // why no further try is made, when it was not delivered
	Count     int           `json:"count"`             // tries so far
	Tries     []DeliveryTry `json:"tries,omitempty"`   // the newest, oldest first
}

// DeliveryTry is one call of a webhook, or one round through the destinations.
type DeliveryTry struct {
	At     time.Time `json:"at"`
	MS     float64   `json:"ms"`
	Status int       `json:"status,omitempty"` // of the answer; 0 = none came
	Error  string    `json:"error,omitempty"`
}
