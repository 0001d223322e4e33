# Reads the log of R CMD check and counts its checks. A check fails with an error or a warning, or with a note that
# speaks of anything but what lies outside of the package.
log <- readLines(commandArgs(TRUE)[1])
start <- grep("^\\* (checking|creating|running)", log)
entries <- Map(function(from, to) log[from:to], start, c(start[-1] - 1L, length(log)))
state <- vapply(entries, function(e) {
  words <- regmatches(e, regexpr("(\\.\\.\\.|^) *(\\[[^]]*\\] *)?(OK|NOTE|WARNING|ERROR|NONE|SKIPPED|INFO)$", e))
  if (length(words)) sub("^.*[^A-Z]", "", words[length(words)]) else ""
}, "")
# A first version is new to CRAN, and a machine may lack a tool that a check asks for.
foreign <- "^(Maintainer:|New submission|Skipping checking (HTML|math)|A complete check needs|  *Skipping|$)"
ours <- vapply(seq_along(entries), function(i) {
  state[i] %in% c("WARNING", "ERROR") || (state[i] == "NOTE" && !all(grepl(foreign, trimws(entries[[i]][-1]))))
}, NA)
for (e in entries[ours]) cat("FAIL", e, sep = "\n")
done <- any(grepl("^Status:", log))
if (!done) cat("FAIL the check did not come to its end\n")
failed <- sum(ours) + !done
cat(sum(!ours & state != ""), "passed,", failed, "failed\n")
quit(status = if (failed) 1 else 0)
