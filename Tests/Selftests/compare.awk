# SPDX-License-Identifier: Apache-2.0
# Compares the TAP stream of a kernel selftest with the expected results.
#
# The input files are *.expected (lines RESULT CASE REASON…), the list of the program's cases, and,
# after `tap=1` on the command line, the TAP stream. A case without a line in *.expected must pass. A
# later line overrides an earlier one, and a `*` in CASE matches any text. A case that passes although
# another result is expected is an error, so that the list stays exact. With `some_huge_pages`, when
# the machine has huge pages but fewer than 64, cases of no-huge-pages.expected may pass.

function expectation(name, i) {
  for (i = rules; i > 0; i--)
    if (name ~ pattern[i]) return i
  return 0
}

function check_result(name, result, i, wanted) {
  i = expectation(name)
  wanted = i ? rule[i] : "pass"
  count[result]++
  seen[name] = 1
  if (result == wanted) {
    if (i) { expected[reason[i]]++; what[reason[i]] = result }
    return
  }
  if (result == "pass" && some_huge_pages && source[i] ~ /no-huge-pages/) return
  print "UNEXPECTED: " name ": " result ", should " wanted (i ? " (" reason[i] ")" : "")
  wrong++
}

/^#/ && !tap || /^[ \t]*$/ { next }

FILENAME ~ /\.expected$/ {
  rule[++rules] = $1
  source[rules] = FILENAME
  text = $2
  gsub(/\./, "[.]", text)
  gsub(/\*/, ".*", text)
  pattern[rules] = "^" text "$"
  sub(/^[^ ]+ +[^ ]+ */, "")
  reason[rules] = $0
  next
}

!tap {
  known[$1] = 1
  if (!filter || index($1, filter)) listed[++cases] = $1
  next
}

/^(not )?ok [0-9]+ / {
  result = /^not/ ? "fail" : /# SKIP/ ? "skip" : "pass"
  sub(/^(not )?ok [0-9]+ /, "")
  name = $1
  if (name in known) check_result(name, result)
  else extra[++extras] = result " " name
}

END {
  for (i = 1; i <= cases; i++)
    if (!(listed[i] in seen)) { print "LOST: " listed[i] " did not report"; wrong++ }
  for (text in expected) printf "  %d %s: %s\n", expected[text], what[text], text
  # Cases of a later kernel are listed apart, because 7.3 does not have them.
  for (i = 1; i <= extras; i++) print "newer than 7.3: " extra[i]
  printf "%s under %s: %d pass, %d fail, %d skip of %d, %d unexpected\n", program, front, \
    count["pass"], count["fail"], count["skip"], cases, wrong
  exit wrong > 0
}
