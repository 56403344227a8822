// Command lambda is a Lambda function that does what its event asks for.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do string `json:"do"`
	N  int    `json:"n"`
}

type answer struct {
	Host     string `json:"host"`
	Served   int    `json:"served"`
	Request  string `json:"request"`
	ARN      string `json:"arn"`
	Deadline int64  `json:"deadline_ms"`
	Function string `json:"function"`
	UID      int    `json:"uid"`
	Padding  string `json:"padding,omitempty"`
}

type unsuitable struct{ error }

var served int

func handle(ctx context.Context, e event) (answer, error) {
	served++
	host, err := os.Hostname()
	if err != nil {
		return answer{}, err
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	fmt.Println("serving", lc.AwsRequestID)
	switch e.Do {
	case "fail":
		return answer{}, unsuitable{errors.New("this picture is not one")}
	case "panic":
		panic("out of ideas")
	case "exit":
		os.Exit(e.N)
	case "sleep":
		time.Sleep(time.Duration(e.N) * time.Millisecond)
	}
	return answer{
		Host: host, Served: served, Request: lc.AwsRequestID, ARN: lc.InvokedFunctionArn, Deadline: deadline.UnixMilli(),
		Function: lambdacontext.FunctionName, UID: os.Getuid(), Padding: strings.Repeat("x", map[bool]int{true: e.N}[e.Do == "pad"]),
	}, nil
}

func main() {
	switch os.Getenv("START") {
	case "slow":
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, "no model at /models")
		os.Exit(3)
	}
	lambda.Start(handle)
}
