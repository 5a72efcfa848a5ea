# SPDX-License-Identifier: Apache-2.0
# Writes a C program that prints the layout of one header.
#
#   awk -v header=linux/vfio.h -f layout.awk MACROS-BEFORE MACROS-AFTER PREPROCESSED
#
# MACROS-BEFORE and MACROS-AFTER are the output of `cc -E -dM` without and with the header, PREPROCESSED
# is the output of `cc -E` with it. This script supplies the names, the compiler the numbers. The
# grammar is that of uapi headers: structs, unions and enums, in which each member has a declaration of
# its own. Any other input ends the run with an error, so that no part of a header is left out.

BEGIN {
  print "#include \"print.h\""
  print "#include <" header ">"
  print "int main(void) {"
}

FNR == 1 { file++ }

file == 1 { old[macro_name($2)] = 1; next }

# A macro with one parameter is compared by its values for the numbers 0 to 15.
file == 2 {
  name = macro_name($2)
  if (name in old || NF < 3) next
  if (name == $2) constant(name)
  else if ($2 ~ /^[A-Za-z_0-9]+\([A-Za-z_0-9]+\)/) for (n = 0; n < 16; n++) constant(name "(" n ")")
  else fail("macro with several parameters: " $0)
  next
}

# Line markers name the file that the following lines come from.
/^#/ { ours = $3 ~ ("/" header "\"$"); next }
ours { text = text " " $0 }

END {
  if (failed) exit 1
  # The space excludes names that only end in __attribute__.
  while (match(text, / __attribute__ *\(\([^()]*(\([^()]*\)[^()]*)*\)\)/))
    text = substr(text, 1, RSTART - 1) " " substr(text, RSTART + RLENGTH)
  gsub(/[{};,=*]|\[[^]]*\]/, " & ", text)
  count = split(text, token, " ")
  at = 1
  while (at <= count && !failed) declaration()
  if (failed) exit 1
  print "return 0;\n}"
}

function macro_name(definition) { sub(/\(.*/, "", definition); return definition }

function constant(expression) { printf "CONSTANT(\"%s\", %s);\n", expression, expression }

function fail(why) {
  if (!failed) print "layout.awk: " header ": " why > "/dev/stderr"
  failed = 1
  exit 1
}

function next_token() {
  if (at > count) fail("ends in the middle of a declaration")
  return token[at++]
}

function expect(wanted,  got) {
  got = next_token()
  if (got != wanted) fail("'" got "' instead of '" wanted "' after '" token[at - 2] "'")
}

function is_name(word) { return word ~ /^[A-Za-z_][A-Za-z_0-9]*$/ }

function declaration(  keyword, tag) {
  keyword = next_token()
  if (keyword != "struct" && keyword != "union" && keyword != "enum") fail("unknown: " keyword)
  tag = token[at]
  if (is_name(tag)) at++
  else if (keyword == "enum") tag = ""
  else fail(keyword " without a name")
  expect("{")
  if (keyword == "enum") {
    if (tag != "") printf "ENUMERATION(enum %s);\n", tag
    enumerators()
  } else {
    printf "RECORD(%s %s);\n", keyword, tag
    members_found = 0
    members()
    for (m = 1; m <= members_found; m++) printf "%s(%s %s, %s);\n", how[m], keyword, tag, path[m]
  }
  expect(";")
}

function enumerators(  name) {
  while ((name = next_token()) != "}") {
    if (!is_name(name)) fail("no enumerator: " name)
    constant(name)
    # Skips the value, which the compiler computes, up to the comma or the end.
    while (token[at] != "," && token[at] != "}") next_token()
    if (token[at] == ",") at++
  }
}

# Reads members up to and including the closing brace into how[] and path[]. The name of a nested
# record follows the record, so its members get that prefix afterwards. Members of a nested record
# without a name belong to the outer record.
function members(  word, first, name) {
  while ((word = next_token()) != "}") {
    if ((word == "struct" || word == "union") && token[at] == "{") {
      at++
      first = members_found + 1
      members()
      name = next_token()
      if (name == ";") continue
      if (!is_name(name)) fail("no member name: " name)
      for (m = first; m <= members_found; m++) path[m] = name "." path[m]
      member("FIELD", name)
      expect(";")
    } else {
      simple_member(word)
    }
  }
}

function simple_member(word,  name, kind) {
  kind = "FIELD"
  for (name = ""; word != ";"; word = next_token()) {
    if (is_name(word)) name = word
    else if (word == "[]") kind = "FLEXIBLE_ARRAY"
    else if (word ~ /^\[/) kind = "ARRAY"
    else if (word != "*") fail("unknown in a member: " word)
  }
  if (name == "") fail("member without a name")
  member(kind, name)
}

function member(kind, name) {
  members_found++
  how[members_found] = kind
  path[members_found] = name
}
