package lambda

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/tasklog"
)

// durable is the real registry with its settings, as the server has them.
type durable struct {
	*tasklog.Registry
	settings *tasklog.LambdaSettings
}

func (d durable) Delete(ctx context.Context, name functions.Name) error {
	return errors.Join(d.Registry.Delete(ctx, name), d.settings.Delete(ctx, name))
}

// openDurable starts a log in dir; stop ends everything in it.
func openDurable(t *testing.T, dir string) (d durable, stop func()) {
	t.Helper()
	server, err := tasklog.StartServer(t.Context(), tasklog.ServerConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	log, err := tasklog.Open(t.Context(), tasklog.Config{Server: server, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if d.Registry, err = log.Registry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.settings, err = log.LambdaSettings(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	<-d.Ready()
	return d, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		log.Close()
		server.Shutdown()
	}
}

// sdk is AWS's client of a server that holds d.
func sdk(t *testing.T, d durable) (client *awslambda.Client, stop func()) {
	t.Helper()
	server := httptest.NewServer(managed(d, d.settings))
	transport := &http.Transport{}
	client = awslambda.New(awslambda.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	return client, func() { transport.CloseIdleConnections(); server.Close() }
}

// ok fails the test when a call failed.
func ok[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		return v
	}
}

func wantTyped[E error](t *testing.T, err error) {
	t.Helper()
	var typed E
	if !errors.As(err, &typed) {
		t.Errorf("error %v, want a %T", err, typed)
	}
}

// TestSDKManagesFunctions makes every call that is served with AWS's own client,
// on the real registry, which is started anew in between.
func TestSDKManagesFunctions(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	d, stop := openDurable(t, dir)
	c, closeClient := sdk(t, d)
	name := aws.String("resize")
	image := &types.FunctionCode{ImageUri: aws.String("registry/resize:1")}
	create := &awslambda.CreateFunctionInput{
		FunctionName: name, PackageType: types.PackageTypeImage, Code: image, Role: aws.String("arn:aws:iam::000000000000:role/r"),
		MemorySize: aws.Int32(1024), Environment: &types.Environment{Variables: map[string]string{"MODE": "fast"}},
		ImageConfig: &types.ImageConfig{EntryPoint: []string{"/main"}, Command: []string{"handler"}},
		Tags:        map[string]string{"team": "video", "rt:gpu": "prefer", "rt:gpu-memory": "4", "rt:concurrency": "8"},
	}
	made := ok[*awslambda.CreateFunctionOutput](t)(c.CreateFunction(ctx, create))
	if made.State != types.StateActive || *made.Version != "$LATEST" || *made.Timeout != 3 || *made.MemorySize != 1024 ||
		*made.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:resize" || made.Environment.Variables["MODE"] != "fast" || len(made.Environment.Variables) != 1 ||
		made.ImageConfigResponse.ImageConfig.EntryPoint[0] != "/main" || made.PackageType != types.PackageTypeImage {
		t.Errorf("created %+v", made)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000-0700", *made.LastModified); err != nil {
		t.Error(err)
	}
	f, err := d.Latest("resize")
	if err != nil || f.Contract != functions.LambdaContract || f.Device != functions.Preferred || f.GPU.Memory != 4*functions.GiB || f.AtOnce() != 8 || f.Limits.Memory != functions.GiB {
		t.Errorf("deployed %+v, %v", f, err)
	}
	_, err = c.CreateFunction(ctx, create)
	wantTyped[*types.ResourceConflictException](t, err)

	get := &awslambda.GetFunctionInput{FunctionName: name}
	if err := awslambda.NewFunctionActiveV2Waiter(c).Wait(ctx, get, time.Minute); err != nil {
		t.Error(err)
	}
	code := ok[*awslambda.UpdateFunctionCodeOutput](t)(c.UpdateFunctionCode(ctx, &awslambda.UpdateFunctionCodeInput{
		FunctionName: name, ImageUri: aws.String("registry/resize:2"), RevisionId: made.RevisionId, Publish: true,
	}))
	if *code.Version != "2" || *code.FunctionArn != *made.FunctionArn+":2" || *code.CodeSha256 == *made.CodeSha256 {
		t.Errorf("updated code %+v", code)
	}
	if err := awslambda.NewFunctionUpdatedV2Waiter(c).Wait(ctx, get, time.Minute); err != nil {
		t.Error(err)
	}
	_, err = c.UpdateFunctionConfiguration(ctx, &awslambda.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: aws.Int32(60), RevisionId: made.RevisionId})
	wantTyped[*types.PreconditionFailedException](t, err)
	conf := ok[*awslambda.UpdateFunctionConfigurationOutput](t)(c.UpdateFunctionConfiguration(ctx, &awslambda.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: aws.Int32(60), Description: aws.String("smaller")}))
	if *conf.Timeout != 60 || *conf.Description != "smaller" || *conf.MemorySize != 1024 {
		t.Errorf("updated configuration %+v", conf)
	}
	published := ok[*awslambda.PublishVersionOutput](t)(c.PublishVersion(ctx, &awslambda.PublishVersionInput{FunctionName: name, CodeSha256: conf.CodeSha256}))
	if *published.Version != "3" || *published.FunctionArn != *made.FunctionArn+":3" {
		t.Errorf("published %+v", published)
	}

	ok[*awslambda.CreateAliasOutput](t)(c.CreateAlias(ctx, &awslambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("2"), Description: aws.String("seen")}))
	_, err = c.CreateAlias(ctx, &awslambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("2")})
	wantTyped[*types.ResourceConflictException](t, err)
	ok[*awslambda.CreateAliasOutput](t)(c.CreateAlias(ctx, &awslambda.CreateAliasInput{FunctionName: name, Name: aws.String("next"), FunctionVersion: aws.String("$LATEST")}))
	ok[*awslambda.PutFunctionEventInvokeConfigOutput](t)(c.PutFunctionEventInvokeConfig(ctx, &awslambda.PutFunctionEventInvokeConfigInput{
		FunctionName: name, MaximumRetryAttempts: aws.Int32(0),
		DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: aws.String("arn:aws:s3:::failed")}},
	}))
	ok[*awslambda.PutFunctionConcurrencyOutput](t)(c.PutFunctionConcurrency(ctx, &awslambda.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(0)}))

	closeClient()
	stop()
	d, stop = openDurable(t, dir)
	defer stop()
	c, closeClient = sdk(t, d)
	defer closeClient()

	got := ok[*awslambda.GetFunctionOutput](t)(c.GetFunction(ctx, &awslambda.GetFunctionInput{FunctionName: aws.String(*made.FunctionArn + ":live")}))
	if *got.Configuration.Version != "2" || *got.Configuration.FunctionArn != *made.FunctionArn+":live" || *got.Code.ImageUri != "registry/resize:2" ||
		got.Tags["team"] != "video" || *got.Concurrency.ReservedConcurrentExecutions != 0 || *got.Configuration.Role != *create.Role {
		t.Errorf("after a restart: %+v, %+v, %v", got.Configuration, got.Code, got.Tags)
	}
	if gc := ok[*awslambda.GetFunctionConfigurationOutput](t)(c.GetFunctionConfiguration(ctx, &awslambda.GetFunctionConfigurationInput{FunctionName: name, Qualifier: aws.String("1")})); *gc.Timeout != 3 {
		t.Errorf("version 1: %+v", gc)
	}
	var versions []string
	for pages := awslambda.NewListVersionsByFunctionPaginator(c, &awslambda.ListVersionsByFunctionInput{FunctionName: name, MaxItems: aws.Int32(2)}); pages.HasMorePages(); {
		for _, v := range ok[*awslambda.ListVersionsByFunctionOutput](t)(pages.NextPage(ctx)).Versions {
			versions = append(versions, *v.Version)
		}
	}
	if fmt.Sprint(versions) != "[$LATEST 1 2 3]" {
		t.Errorf("versions %v", versions)
	}
	testSDKAliases(t, c, name)
	testSDKAsync(t, c, name)
	testSDKConcurrency(t, c, d, name)
	testSDKTags(t, c, d, *made.FunctionArn)

	for _, other := range []string{"alpha", "zulu"} {
		ok[*awslambda.CreateFunctionOutput](t)(c.CreateFunction(ctx, &awslambda.CreateFunctionInput{FunctionName: &other, PackageType: types.PackageTypeImage, Code: image, Role: create.Role}))
	}
	var names []string
	for pages := awslambda.NewListFunctionsPaginator(c, &awslambda.ListFunctionsInput{MaxItems: aws.Int32(1)}); pages.HasMorePages(); {
		for _, v := range ok[*awslambda.ListFunctionsOutput](t)(pages.NextPage(ctx)).Functions {
			names = append(names, *v.FunctionName)
		}
	}
	if fmt.Sprint(names) != "[alpha resize zulu]" {
		t.Errorf("functions %v", names)
	}
	if n := ok[*awslambda.GetAccountSettingsOutput](t)(c.GetAccountSettings(ctx, &awslambda.GetAccountSettingsInput{})).AccountUsage.FunctionCount; n != 3 {
		t.Errorf("%d functions", n)
	}

	ok[*awslambda.DeleteFunctionOutput](t)(c.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: name}))
	_, err = c.GetFunction(ctx, get)
	wantTyped[*types.ResourceNotFoundException](t, err)
	_, err = c.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: name})
	wantTyped[*types.ResourceNotFoundException](t, err)
	create.Tags = nil
	ok[*awslambda.CreateFunctionOutput](t)(c.CreateFunction(ctx, create))
	again := ok[*awslambda.ListVersionsByFunctionOutput](t)(c.ListVersionsByFunction(ctx, &awslambda.ListVersionsByFunctionInput{FunctionName: name})).Versions
	if len(again) != 2 {
		t.Errorf("a function that was made again has %d versions of the one before", len(again)-2)
	}
	_, err = c.GetFunction(ctx, &awslambda.GetFunctionInput{FunctionName: name, Qualifier: aws.String("2")})
	wantTyped[*types.ResourceNotFoundException](t, err)
	create.PackageType = types.PackageTypeZip
	create.FunctionName = aws.String("zip")
	_, err = c.CreateFunction(ctx, create)
	wantTyped[*types.InvalidParameterValueException](t, err)
}
