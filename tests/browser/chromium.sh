#!/bin/sh
# Ensures that Chromium is installed: installs its build without windows as root on Debian; elsewhere the tests are
# skipped.
set -eu
for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium-headless-shell >/dev/null && exit 0
fi
echo 'chromium.sh: Chromium is not installed, and cannot be installed here: the browser tests will be skipped' >&2
