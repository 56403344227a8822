package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/spillway/spillway/functions"
)

// ours begins the id of every notification rule that SetNotifications writes.
const ours = "spillway-"

// SetNotifications has MinIO report the bucket's new objects that match a
// trigger's prefix and suffix to every target, which the store's operator has
// set up: arn:minio:sqs:<region>:<name>:webhook. Each target gets them all. They
// become the only rules of ours; rules of others, of every kind, stay as they
// are. It is for MinIO alone: on AWS the bucket's owner does this. A target that
// the store does not know is ErrInvalid, with what its operator must set; a store
// without notifications answers ErrUnavailable.
func (s *Store) SetNotifications(ctx context.Context, bucket string, targets []string, triggers []functions.Trigger) error {
	if err := functions.BucketName(bucket); err != nil {
		return err
	}
	for _, target := range targets {
		if _, err := notification.NewArnFromString(target); err != nil {
			return functions.Invalid("bad_arn", "%q is not a notification target", target).
				WithHint("write arn:minio:sqs::NAME:webhook").WithCause(err)
		}
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
	for _, target := range targets {
		seen := make(map[string]bool)
		for _, t := range triggers {
			id := t.Prefix + "\x00" + t.Suffix
			if t.Bucket != bucket || seen[id] {
				continue
			}
			seen[id] = true
			want.QueueConfigs = append(want.QueueConfigs, notification.QueueConfig{
				Config: rule(len(want.QueueConfigs)-foreign, t), Queue: target,
			})
		}
	}
	if slices.EqualFunc(have.QueueConfigs, want.QueueConfigs, sameRule) {
		return nil
	}
	err = translate(ctx, s.core.SetBucketNotification(ctx, bucket, want), "set notifications of", bucket, "")
	if errors.Is(err, functions.ErrInvalid) {
		return functions.Invalid("unknown_target", "the object store does not take %s as notification targets of %s",
			strings.Join(targets, ", "), bucket).WithHint("%s", operatorLines(targets)).WithCause(err)
	}
	return err
}

// operatorLines is the environment that makes MinIO know the targets.
func operatorLines(targets []string) string {
	var b strings.Builder
	b.WriteString("start MinIO with these in its environment, and a queue folder for each target that must not miss anything:")
	for _, target := range targets {
		arn, err := notification.NewArnFromString(target)
		if err != nil || arn.Resource != "webhook" {
			continue
		}
		name := arn.AccountID // MinIO keeps the target's name there
		for _, line := range []string{
			"ENABLE_" + name + "=on", "ENDPOINT_" + name + "=http://GATEWAY/internal/s3-events",
			"AUTH_TOKEN_" + name + "=TOKEN", "QUEUE_DIR_" + name + "=FOLDER",
		} {
			b.WriteString("\nMINIO_NOTIFY_WEBHOOK_" + line)
		}
	}
	return b.String()
}

func rule(n int, t functions.Trigger) notification.Config {
	c := notification.Config{
		ID:     fmt.Sprintf("%s%d", ours, n),
		Events: []notification.EventType{notification.ObjectCreatedAll},
	}
	if t.Prefix != "" {
		c.AddFilterPrefix(t.Prefix)
	}
	if t.Suffix != "" {
		c.AddFilterSuffix(t.Suffix)
	}
	return c
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
