package objects

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/spillway/spillway/functions"
)

// ours begins the id of every notification rule that SetNotifications writes.
const ours = "spillway-"

// Notification asks the store to report new objects of a prefix and suffix to a
// target that the store's operator has set up.
type Notification struct {
	ARN    string // arn:minio:sqs:<region>:<name>:webhook
	Prefix string
	Suffix string
}

// SetNotifications makes rules the only ones of ours on the bucket. Rules of
// others stay as they are. It is for MinIO: on AWS the bucket's owner does this.
// A target that the store does not know is ErrInvalid; a store without
// notifications answers ErrUnavailable.
func (s *Store) SetNotifications(ctx context.Context, bucket string, rules []Notification) error {
	if err := checkBucket(bucket); err != nil {
		return err
	}
	have, err := s.core.GetBucketNotification(ctx, bucket)
	if err != nil {
		return translate(ctx, err, "read notifications of", bucket, "")
	}
	want := have
	want.QueueConfigs = slices.DeleteFunc(slices.Clone(have.QueueConfigs), func(q notification.QueueConfig) bool {
		return strings.HasPrefix(q.ID, ours)
	})
	foreign := len(want.QueueConfigs)
	for i, r := range rules {
		if _, err := notification.NewArnFromString(r.ARN); err != nil {
			return functions.Invalid("bad_arn", "%q is not a notification target", r.ARN).WithCause(err)
		}
		c := notification.Config{
			ID:     fmt.Sprintf("%s%d", ours, i),
			Events: []notification.EventType{notification.ObjectCreatedAll},
		}
		if r.Prefix != "" {
			c.AddFilterPrefix(r.Prefix)
		}
		if r.Suffix != "" {
			c.AddFilterSuffix(r.Suffix)
		}
		want.QueueConfigs = append(want.QueueConfigs, notification.QueueConfig{Config: c, Queue: r.ARN})
	}
	if len(have.QueueConfigs)-foreign == len(rules) && slices.EqualFunc(have.QueueConfigs, want.QueueConfigs, sameRule) {
		return nil
	}
	return translate(ctx, s.core.SetBucketNotification(ctx, bucket, want), "set notifications of", bucket, "")
}

func sameRule(a, b notification.QueueConfig) bool {
	filters := func(f *notification.Filter) []notification.FilterRule {
		if f == nil {
			return nil
		}
		return f.S3Key.FilterRules
	}
	return a.ID == b.ID && a.Queue == b.Queue && notification.EqualEventTypeList(a.Events, b.Events) &&
		notification.EqualFilterRuleList(filters(a.Filter), filters(b.Filter))
}
