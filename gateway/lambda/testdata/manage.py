"""Manages a function with boto3. Prints one line, or fails with what was wrong."""
import sys

import boto3
from botocore.config import Config

c = boto3.client(
    "lambda", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="AKID", aws_secret_access_key="secret",
    config=Config(retries={"max_attempts": 0}),
)


def refused(error, call, **parameters):
    try:
        call(**parameters)
    except error as e:
        assert e.response["Error"]["Message"], e.response
    else:
        raise AssertionError("%s was not raised" % error)


name = "thumb"
role = "arn:aws:iam::000000000000:role/r"
made = c.create_function(
    FunctionName=name, PackageType="Image", Code={"ImageUri": "registry/thumb:1"}, Role=role, Timeout=30,
    Environment={"Variables": {"A": "b"}}, Tags={"rt:gpu": "1", "rt:gpu-memory": "16", "team": "web"},
)
arn = made["FunctionArn"]
assert made["State"] == "Active" and made["Version"] == "$LATEST" and made["Environment"] == {"Variables": {"A": "b"}}, made
refused(c.exceptions.ResourceConflictException, c.create_function, FunctionName=name, PackageType="Image", Code={"ImageUri": "i"}, Role=role)
refused(c.exceptions.InvalidParameterValueException, c.create_function, FunctionName="zip", Runtime="python3.9", Handler="a.b", Code={"ZipFile": b"x"}, Role=role)
c.get_waiter("function_active_v2").wait(FunctionName=name)
c.update_function_code(FunctionName=arn, ImageUri="registry/thumb:2", RevisionId=made["RevisionId"])
c.get_waiter("function_updated_v2").wait(FunctionName=name)
refused(c.exceptions.PreconditionFailedException, c.update_function_configuration, FunctionName=name, Timeout=9, RevisionId=made["RevisionId"])
assert c.update_function_configuration(FunctionName=name, Timeout=9)["Timeout"] == 9
assert c.publish_version(FunctionName=name)["Version"] == "3"
versions = [v["Version"] for p in c.get_paginator("list_versions_by_function").paginate(FunctionName=name, PaginationConfig={"PageSize": 1}) for v in p["Versions"]]
assert versions == ["$LATEST", "1", "2", "3"], versions
assert c.get_function_configuration(FunctionName=name, Qualifier="1")["Timeout"] == 30

assert c.create_alias(FunctionName=name, Name="live", FunctionVersion="1")["AliasArn"] == arn + ":live"
assert c.update_alias(FunctionName=name, Name="live", FunctionVersion="2")["FunctionVersion"] == "2"
assert c.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "2"
assert [a["Name"] for p in c.get_paginator("list_aliases").paginate(FunctionName=name) for a in p["Aliases"]] == ["live"]
assert c.get_function(FunctionName=arn + ":live")["Code"]["ImageUri"] == "registry/thumb:2"
c.delete_alias(FunctionName=name, Name="live")
refused(c.exceptions.ResourceNotFoundException, c.get_alias, FunctionName=name, Name="live")

c.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
assert c.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 0
c.delete_function_concurrency(FunctionName=name)
assert "ReservedConcurrentExecutions" not in c.get_function_concurrency(FunctionName=name)

put = c.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1, DestinationConfig={"OnSuccess": {"Destination": arn}})
assert put["LastModified"].year == 2026 and put["FunctionArn"] == arn + ":$LATEST", put
now = c.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
assert now["MaximumRetryAttempts"] == 1 and now["DestinationConfig"]["OnSuccess"]["Destination"] == arn, now
assert c.get_function_event_invoke_config(FunctionName=name)["MaximumEventAgeInSeconds"] == 60
assert len(c.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]) == 1
c.delete_function_event_invoke_config(FunctionName=name)
refused(c.exceptions.ResourceNotFoundException, c.get_function_event_invoke_config, FunctionName=name)

c.tag_resource(Resource=arn, Tags={"a b": "c/d", "spillway:network": "egress"})
c.untag_resource(Resource=arn, TagKeys=["team", "rt:gpu"])
assert c.list_tags(Resource=arn)["Tags"] == {"a b": "c/d", "spillway:network": "egress", "rt:gpu-memory": "16"}
refused(c.exceptions.InvalidParameterValueException, c.tag_resource, Resource=arn, Tags={"rt:gpu": "lots"})

assert [f["FunctionName"] for p in c.get_paginator("list_functions").paginate() for f in p["Functions"]] == [name]
assert c.get_account_settings()["AccountUsage"]["FunctionCount"] == 1
c.delete_function(FunctionName=name)
refused(c.exceptions.ResourceNotFoundException, c.get_function, FunctionName=name)
refused(c.exceptions.ResourceNotFoundException, c.delete_function, FunctionName=name)
print("boto3", boto3.__version__, "managed a function")
