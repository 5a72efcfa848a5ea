# SPDX-License-Identifier: Apache-2.0
# Writes a C program that prints the layout of one header.
#
#   awk -v header=linux/vfio.h -f layout.awk MACROS-BEFORE MACROS-AFTER PREPROCESSED
#
# The first two are the output of `cc -E -dM` without and with the header, the third is `cc -E` with
# it. Names come from here, numbers from the compiler. The grammar is that of uapi headers, where
# everything is a struct, a union or an enum, each member declared on its own; whatever else turns
# up ends the run, so that nothing can be passed over in silence.

BEGIN {
  print "#include \"print.h\""
  print "#include <" header ">"
  print "int main(void) {"
}

FNR == 1 { file++ }

file == 1 { old[macro_name($2)] = 1; next }

# A macro with one parameter is compared by what it makes of small numbers.
file == 2 {
  name = macro_name($2)
  if (name in old || NF < 3) next
  if (name == $2) constant(name)
  else if ($2 ~ /^[A-Za-z_0-9]+\([A-Za-z_0-9]+\)/) for (n = 0; n < 16; n++) constant(name "(" n ")")
  else fail("macro with several parameters: " $0)
  next
}

# Line markers tell which file a line comes from.
/^#/ { ours = $3 ~ ("/" header "\"$"); next }
ours { text = text " " $0 }

END {
  if (failed) exit 1
  # A space, so that a name which only ends so is left alone.
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
    # Values are the compiler's business: on to the comma or the end.
    while (token[at] != "," && token[at] != "}") next_token()
    if (token[at] == ",") at++
  }
}

# Up to and including the closing brace, into how[] and path[]. The name of a nested record stands
# behind it, so its members get that prefix afterwards; without a name they belong to the outer one.
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
