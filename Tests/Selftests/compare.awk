# Compares a TAP stream of the kernel's selftests with what is expected of it.
#
# Read in this order: *.expected (RESULT CASE REASON…), the list of the program's cases, and, after
# `tap=1` on the command line, the TAP. A case of the list with no line in *.expected must pass; a
# later line overrides an earlier one; a `*` in CASE stands for anything. A case that passes although
# another result is expected is as wrong as one that fails: the list is exact. Only where there are
# `some_huge_pages`, but fewer than 64, may cases pass that are listed for want of them.

function expectation(name, i) {
  for (i = rules; i > 0; i--)
    if (name ~ pattern[i]) return i
  return 0
}

function settle(name, result, i, wanted) {
  i = expectation(name)
  wanted = i ? rule[i] : "pass"
  count[result]++
  seen[name] = 1
  if (result == wanted) {
    if (i) { excused[reason[i]]++; what[reason[i]] = result }
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
  if (name in known) settle(name, result)
  else extra[++extras] = result " " name
}

END {
  for (i = 1; i <= cases; i++)
    if (!(listed[i] in seen)) { print "LOST: " listed[i] " did not report"; wrong++ }
  for (text in excused) printf "  %d %s: %s\n", excused[text], what[text], text
  # Cases of a later kernel are told apart: they say nothing about 7.3.
  for (i = 1; i <= extras; i++) print "newer than 7.3: " extra[i]
  printf "%s under %s: %d pass, %d fail, %d skip of %d, %d unexpected\n", program, front, \
    count["pass"], count["fail"], count["skip"], cases, wrong
  exit wrong > 0
}
