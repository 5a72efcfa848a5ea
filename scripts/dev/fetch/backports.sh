# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Functions that download packages of the suite trixie-backports with an apt configuration of their own.
# They install nothing and need no privileges. The script that sources this file has set -euo pipefail.
#
#   backports_open DIRECTORY [SUITE]   configures apt in DIRECTORY; reads the lists of backports and of SUITE
#   backports_candidate NAME           prints the version of NAME in backports, or nothing
#   backports_depends NAME PATTERN     prints the dependencies of NAME that match PATTERN
#   backports_download NAME            downloads the .deb of NAME to DIRECTORY and prints its path
#   backports_closure NAME...          downloads the packages and all their dependencies from both suites, and
#                                      prints the paths

readonly backports_suite=trixie-backports
cache=$(realpath -m "${IOMMUFD_SIM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/iommufd-sim}")
readonly cache

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

backports_open() {
  local archive codename keyring
  # The archive is the one that this system's packages come from. So the mirror and the proxy of the system
  # are used, and no host name is needed here. apt parses its own sources.
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # shellcheck disable=SC2016 # apt expands the format
  archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' |
    awk -v release="$codename" '!found && $2 == release && $3 == "main" { found = 1; print $1 }')
  [[ -n $archive ]] || fail "the apt sources of this system have no archive of Debian '$codename'"

  for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    [[ -e $keyring ]] && break
  done
  [[ -e $keyring ]] || fail 'the package debian-archive-keyring is not installed'

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
    -o APT::Sandbox::User=root) # the user _apt cannot read the cache, and apt would warn as root
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
  : > "$backports_apt/status" # an empty status file: no package counts as installed
  apt-get "${backports_options[@]}" -o Dir::State::status="$backports_apt/status" \
    install --yes --download-only --no-install-recommends -t "$backports_suite" "$@" >&2
  printf '%s\n' "$backports_apt"/cache/archives/*.deb
}
