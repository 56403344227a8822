package lambda

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/spillway/spillway/functions"
)

func testSDKAliases(t *testing.T, c *awslambda.Client, name *string) {
	t.Helper()
	ctx, live := t.Context(), aws.String("live")
	was := ok[*awslambda.GetAliasOutput](t)(c.GetAlias(ctx, &awslambda.GetAliasInput{FunctionName: name, Name: live}))
	now := ok[*awslambda.UpdateAliasOutput](t)(c.UpdateAlias(ctx, &awslambda.UpdateAliasInput{FunctionName: name, Name: live, FunctionVersion: aws.String("3"), RevisionId: was.RevisionId}))
	if *now.FunctionVersion != "3" || *now.Description != "seen" || *now.RevisionId == *was.RevisionId {
		t.Errorf("updated alias %+v", now)
	}
	_, err := c.UpdateAlias(ctx, &awslambda.UpdateAliasInput{FunctionName: name, Name: live, FunctionVersion: aws.String("1"), RevisionId: was.RevisionId})
	wantTyped[*types.PreconditionFailedException](t, err)
	_, err = c.UpdateAlias(ctx, &awslambda.UpdateAliasInput{FunctionName: name, Name: live, FunctionVersion: aws.String("99")})
	wantTyped[*types.ResourceNotFoundException](t, err)
	var names []string
	for pages := awslambda.NewListAliasesPaginator(c, &awslambda.ListAliasesInput{FunctionName: name, MaxItems: aws.Int32(1)}); pages.HasMorePages(); {
		for _, v := range ok[*awslambda.ListAliasesOutput](t)(pages.NextPage(ctx)).Aliases {
			names = append(names, *v.Name+"="+*v.FunctionVersion)
		}
	}
	if fmt.Sprint(names) != "[live=3 next=$LATEST]" {
		t.Errorf("aliases %v", names)
	}
	of := ok[*awslambda.ListAliasesOutput](t)(c.ListAliases(ctx, &awslambda.ListAliasesInput{FunctionName: name, FunctionVersion: aws.String("$LATEST")})).Aliases
	if len(of) != 1 || *of[0].Name != "next" {
		t.Errorf("aliases of the newest: %+v", of)
	}
	ok[*awslambda.DeleteAliasOutput](t)(c.DeleteAlias(ctx, &awslambda.DeleteAliasInput{FunctionName: name, Name: live}))
	_, err = c.GetAlias(ctx, &awslambda.GetAliasInput{FunctionName: name, Name: live})
	wantTyped[*types.ResourceNotFoundException](t, err)
}

func testSDKAsync(t *testing.T, c *awslambda.Client, name *string) {
	t.Helper()
	ctx := t.Context()
	now := ok[*awslambda.UpdateFunctionEventInvokeConfigOutput](t)(c.UpdateFunctionEventInvokeConfig(ctx, &awslambda.UpdateFunctionEventInvokeConfigInput{FunctionName: name, MaximumEventAgeInSeconds: aws.Int32(120)}))
	if *now.MaximumRetryAttempts != 0 || *now.MaximumEventAgeInSeconds != 120 || *now.DestinationConfig.OnFailure.Destination != "arn:aws:s3:::failed" || now.LastModified.Year() != 2026 {
		t.Errorf("updated %+v", now)
	}
	put := ok[*awslambda.PutFunctionEventInvokeConfigOutput](t)(c.PutFunctionEventInvokeConfig(ctx, &awslambda.PutFunctionEventInvokeConfigInput{FunctionName: name, MaximumRetryAttempts: aws.Int32(1)}))
	if put.MaximumEventAgeInSeconds != nil || put.DestinationConfig.OnFailure.Destination != nil {
		t.Errorf("a put kept what was before: %+v", put)
	}
	got := ok[*awslambda.GetFunctionEventInvokeConfigOutput](t)(c.GetFunctionEventInvokeConfig(ctx, &awslambda.GetFunctionEventInvokeConfigInput{FunctionName: name}))
	list := ok[*awslambda.ListFunctionEventInvokeConfigsOutput](t)(c.ListFunctionEventInvokeConfigs(ctx, &awslambda.ListFunctionEventInvokeConfigsInput{FunctionName: name})).FunctionEventInvokeConfigs
	if *got.MaximumRetryAttempts != 1 || len(list) != 1 || *list[0].FunctionArn != *got.FunctionArn {
		t.Errorf("got %+v, listed %+v", got, list)
	}
	ok[*awslambda.DeleteFunctionEventInvokeConfigOutput](t)(c.DeleteFunctionEventInvokeConfig(ctx, &awslambda.DeleteFunctionEventInvokeConfigInput{FunctionName: name}))
	_, err := c.GetFunctionEventInvokeConfig(ctx, &awslambda.GetFunctionEventInvokeConfigInput{FunctionName: name})
	wantTyped[*types.ResourceNotFoundException](t, err)
	_, err = c.UpdateFunctionEventInvokeConfig(ctx, &awslambda.UpdateFunctionEventInvokeConfigInput{FunctionName: name, MaximumRetryAttempts: aws.Int32(1)})
	wantTyped[*types.ResourceNotFoundException](t, err)
	if n := len(ok[*awslambda.ListFunctionEventInvokeConfigsOutput](t)(c.ListFunctionEventInvokeConfigs(ctx, &awslambda.ListFunctionEventInvokeConfigsInput{FunctionName: name})).FunctionEventInvokeConfigs); n != 0 {
		t.Errorf("%d configurations after the deletion", n)
	}
}

func testSDKConcurrency(t *testing.T, c *awslambda.Client, d durable, name *string) {
	t.Helper()
	ctx, get := t.Context(), &awslambda.GetFunctionConcurrencyInput{FunctionName: name}
	if n := ok[*awslambda.GetFunctionConcurrencyOutput](t)(c.GetFunctionConcurrency(ctx, get)).ReservedConcurrentExecutions; n == nil || *n != 0 {
		t.Errorf("reserved %v after a restart, want 0", n)
	}
	ok[*awslambda.PutFunctionConcurrencyOutput](t)(c.PutFunctionConcurrency(ctx, &awslambda.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(7)}))
	f, err := d.Latest(functions.Name(*name))
	if n := ok[*awslambda.GetFunctionConcurrencyOutput](t)(c.GetFunctionConcurrency(ctx, get)).ReservedConcurrentExecutions; *n != 7 || f.Concurrency != 7 || err != nil {
		t.Errorf("reserved %d, of the spec %d, %v", *n, f.Concurrency, err)
	}
	ok[*awslambda.DeleteFunctionConcurrencyOutput](t)(c.DeleteFunctionConcurrency(ctx, &awslambda.DeleteFunctionConcurrencyInput{FunctionName: name}))
	if n := ok[*awslambda.GetFunctionConcurrencyOutput](t)(c.GetFunctionConcurrency(ctx, get)).ReservedConcurrentExecutions; n != nil {
		t.Errorf("reserved %d after the deletion", *n)
	}
}

func testSDKTags(t *testing.T, c *awslambda.Client, d durable, arn string) {
	t.Helper()
	ctx := t.Context()
	ok[*awslambda.TagResourceOutput](t)(c.TagResource(ctx, &awslambda.TagResourceInput{Resource: &arn, Tags: map[string]string{"cost centre": "a/b", "rt:gpu": "2", "rt:network": "egress"}}))
	f, err := d.Latest("resize")
	if err != nil || f.Device != functions.Required || f.GPU.Count != 2 || f.GPU.Memory != 4*functions.GiB || f.Network != functions.NetworkEgress {
		t.Errorf("tagged: %+v, %v", f, err)
	}
	ok[*awslambda.UntagResourceOutput](t)(c.UntagResource(ctx, &awslambda.UntagResourceInput{Resource: &arn, TagKeys: []string{"rt:gpu", "rt:gpu-memory", "rt:concurrency", "team", "none such"}}))
	f, err = d.Latest("resize")
	if err != nil || f.Device != functions.Auto || f.GPU != nil || f.AtOnce() != 1 || f.Network != functions.NetworkEgress {
		t.Errorf("untagged: %+v, %v", f, err)
	}
	tags := ok[*awslambda.ListTagsOutput](t)(c.ListTags(ctx, &awslambda.ListTagsInput{Resource: &arn})).Tags
	if fmt.Sprint(tags) != "map[cost centre:a/b rt:network:egress]" {
		t.Errorf("tags %v", tags)
	}
	_, err = c.TagResource(ctx, &awslambda.TagResourceInput{Resource: &arn, Tags: map[string]string{"rt:gpu": "lots"}})
	wantTyped[*types.InvalidParameterValueException](t, err)
}
