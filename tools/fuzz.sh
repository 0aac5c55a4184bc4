#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time, one after the other:
# go test can fuzz only one target at once.
set -euo pipefail
each=${1:?how long to run each target, such as 5s}

targets=$(go test -list '^Fuzz' ./... |
	awk '/^Fuzz/ { names[n++] = $1 } $1 == "ok" { for (i = 0; i < n; i++) print $2, names[i]; n = 0 } $1 == "?" { n = 0 }')
if [ -z "$targets" ]; then
	echo "there are no fuzz targets" >&2
	exit 1
fi
while read -r package name; do
	echo "$package $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$each" "$package"
done <<<"$targets"
