#!/bin/sh
# Builds spillway/transcribe:latest where its base image, PyPI and Hugging Face
# can be reached, and says clearly where they cannot.
set -eu
cd "$(dirname "$0")/../functions/catalog/transcribe"
base=$(sed -n 's/^FROM //p' Dockerfile)
if ! docker image inspect "$base" >/dev/null 2>&1 && ! timeout 60 docker pull -q "$base" >/dev/null 2>&1; then
	echo "transcribe: not built, because $base cannot be pulled here; run images/transcribe.sh where an image registry answers"
	exit 0
fi
exec docker build --network host -t spillway/transcribe:latest .
