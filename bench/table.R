# The best figure of each program and workload, and how this package compares. Input: lines of program, workload,
# value, unit.
results <- utils::read.table(commandArgs(TRUE)[1], col.names = c("who", "workload", "value", "unit"))
rate <- grepl("/s$", results$unit)
best <- stats::aggregate(list(value = ifelse(rate, -results$value, results$value)),
  results[c("workload", "unit", "who")], min)
best$value <- abs(best$value)
wide <- stats::reshape(best, idvar = c("workload", "unit"), timevar = "who", direction = "wide")
names(wide) <- sub("value.", "", names(wide), fixed = TRUE)
for (peer in intersect(c("torch", "mxnet"), names(wide))) {
  if (is.null(wide$ours)) break
  faster <- ifelse(grepl("/s$", wide$unit), wide$ours / wide[[peer]], wide[[peer]] / wide$ours)
  wide[[paste("ahead of", peer)]] <- sprintf("%.2fx", faster)
}
print(wide[order(match(wide$workload, unique(results$workload))), ], digits = 3, row.names = FALSE)
