#!/bin/sh
# Sees to it that there is a Chromium: where root may install packages of Debian, it does; elsewhere the tests skip.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium >/dev/null && exit 0
fi
echo 'chromium.sh: no Chromium here, and none could be installed: the browser tests will be skipped' >&2
