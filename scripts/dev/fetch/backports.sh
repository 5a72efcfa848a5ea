# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Packages of a newer Debian suite, fetched beside the system's own apt: nothing is installed and no
# privileges are needed. To be sourced by a script that has set -euo pipefail.
#
#   backports_open DIRECTORY [SUITE]   sets apt up in DIRECTORY and reads the suite's lists, and SUITE's
#   backports_candidate NAME           prints the version of NAME that the suite has, or nothing
#   backports_depends NAME PATTERN     prints the packages that NAME depends on and that match
#   backports_download NAME            puts NAME's .deb into DIRECTORY and prints its path
#   backports_closure NAME...          the same for them and all that they need, of both suites

readonly backports_suite=trixie-backports
cache=$(realpath -m "${IOMMUFD_SIM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/iommufd-sim}")
readonly cache

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

backports_open() {
  local archive codename keyring
  # The archive is the one this system's own packages come from, so that mirrors and proxies are
  # honoured and no host is named here. apt parses its sources better than any pattern would.
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # shellcheck disable=SC2016 # the format is apt's to expand
  archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' |
    awk -v release="$codename" '!found && $2 == release && $3 == "main" { found = 1; print $1 }')
  [[ -n $archive ]] || fail "no archive of Debian '$codename' among apt's sources"

  for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    [[ -e $keyring ]] && break
  done
  [[ -e $keyring ]] || fail 'no debian-archive-keyring'

  backports_apt=$1
  mkdir -p "$backports_apt"/{sources,lists/partial,cache/archives/partial}
  cat > "$backports_apt/sources/$backports_suite.sources" <<TEXT
Types: deb
URIs: $archive
Suites: $backports_suite ${2-}
Components: main
Signed-By: $keyring
TEXT
  backports_options=(-q
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$backports_apt/sources"
    -o Dir::State::lists="$backports_apt/lists" -o Dir::Cache="$backports_apt/cache"
    -o Acquire::Languages=none -o Debug::NoLocking=true
    -o APT::Sandbox::User=root) # apt's own user may not enter the cache, and warns when run by root
  apt-get "${backports_options[@]}" update >&2
}

backports_candidate() {
  apt-cache "${backports_options[@]}" madison "$1" |
    awk -F ' *[|] *' -v suite="$backports_suite/" '!found && index($3, suite) { found = 1; print $2 }'
}

backports_depends() {
  apt-cache "${backports_options[@]}" depends "$1/$backports_suite" |
    awk -v pattern="$2" '$1 == "Depends:" && $2 ~ pattern { print $2 }'
}

backports_download() {
  (cd "$backports_apt" && apt-get "${backports_options[@]}" download "$1/$backports_suite" >&2)
  echo "$backports_apt/$1"_*.deb
}

backports_closure() {
  : > "$backports_apt/status" # of a system on which nothing is installed
  apt-get "${backports_options[@]}" -o Dir::State::status="$backports_apt/status" \
    install --yes --download-only --no-install-recommends -t "$backports_suite" "$@" >&2
  printf '%s\n' "$backports_apt"/cache/archives/*.deb
}
