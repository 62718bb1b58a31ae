#!/usr/bin/env bash
# Brings the Chromium that the browser tests drive, where Debian's packages can be installed.
# Elsewhere those tests are skipped, and say so; with CI set they fail instead.
set -u
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } >/dev/null 2>&1 && exit 0
fi
echo "browser tests need Debian's chromium and chromium-driver, which could not be installed" >&2
exit 0
