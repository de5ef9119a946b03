# Prints the items of one top-level list of a cloud-config, each on a line:  awk -v key=runcmd -f cloud-config.awk user-data
#
# The part of YAML that people write there: block and flow lists, plain and quoted strings, literal blocks (- |) as they stand, and
# lists as items, which become a command with its words quoted for the shell.

# scalar takes quotes, escapes and comments off one value.
function scalar(s,   out, c, i, quote) {
  quote = substr(s, 1, 1)
  if (quote == "\"") {
    for (i = 2; i <= length(s); i++) {
      c = substr(s, i, 1)
      if (c == "\"") break
      if (c == "\\") { i++; c = substr(s, i, 1); if (c == "n") c = "\n"; else if (c == "t") c = "\t" }
      out = out c
    }
    return out
  }
  if (quote == "'") {
    for (i = 2; i <= length(s); i++) {
      c = substr(s, i, 1)
      if (c == "'") { if (substr(s, i + 1, 1) != "'") break; i++ }
      out = out c
    }
    return out
  }
  sub(/[ \t]+#.*$/, "", s)
  sub(/[ \t]+$/, "", s)
  return s
}

# split_flow takes [a, "b, c"] apart into words[1..n].
function split_flow(s, words,   n, i, c, quote, item) {
  n = 0; quote = ""; item = ""
  for (i = 2; i <= length(s); i++) {
    c = substr(s, i, 1)
    if (quote != "") {
      if (quote == "\"" && c == "\\") { item = item c; i++; c = substr(s, i, 1) }
      else if (c == quote) quote = ""
    } else if ((c == "\"" || c == "'") && item ~ /^[ \t]*$/) quote = c
    else if (c == "," || c == "]") {
      sub(/^[ \t]+/, "", item)
      if (item != "") words[++n] = scalar(item)
      item = ""
      if (c == "]") return n
      continue
    }
    item = item c
  }
  return n
}

# command makes one shell command of a list of words.
function command(words, n,   out, i, w) {
  for (i = 1; i <= n; i++) {
    w = words[i]
    gsub(/'/, "'\\''", w)
    out = out (i > 1 ? " " : "") "'" w "'"
  }
  return out
}

function indent(s) { match(s, /^ */); return RLENGTH }

{ sub(/\r$/, "") }

# A literal block goes on for as long as lines are indented deeper than its dash.
block {
  if ($0 ~ /^[ \t]*$/) { print ""; next }
  if (indent($0) > dash) {
    if (strip < 0) strip = indent($0)
    print substr($0, strip + 1)
    next
  }
  block = 0
}

$0 ~ "^" key ":" {
  on = 1
  sub(/^[^:]*:[ \t]*/, "")
  if ($0 ~ /^\[/) { n = split_flow($0, words); for (i = 1; i <= n; i++) print words[i]; on = 0 }
  next
}
on && /^[^ \t#-]/ { on = 0 }
on && /^ *-[ \t]/ {
  dash = indent($0)
  sub(/^ *-[ \t]+/, "")
  if ($0 ~ /^[|>][-+]?[ \t]*$/) { block = 1; strip = -1; next }
  if ($0 ~ /^\[/) { n = split_flow($0, words); print command(words, n); next }
  print scalar($0)
}
