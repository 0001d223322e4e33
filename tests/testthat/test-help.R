# The list of help pages and lessons, in the sources only.

root <- function() {
  folder <- normalizePath(test_path("..", ".."), mustWork = FALSE)
  skip_if_not(file.exists(file.path(folder, "_pkgdown.yml")), "not the source folder")
  folder
}

test_that("every help page and every lesson has its place", {
  folder <- root()
  lines <- readLines(file.path(folder, "_pkgdown.yml"))
  entry <- sub("^  - ", "", grep("^  - ", lines, value = TRUE))
  concepts <- sub('^has_concept[(]"(.*)"[)]$', "\\1", grep("^has_concept", entry, value = TRUE))
  pages <- lapply(list.files(file.path(folder, "man"), "[.]Rd$", full.names = TRUE), function(file) {
    rd <- readLines(file)
    field <- function(tag) gsub("\\\\%", "%", sub("[}]$", "", sub(paste0("^.", tag, "[{]"), "",
      grep(paste0("^.", tag, "[{]"), rd, value = TRUE))))
    list(name = field("name"), alias = field("alias"), concept = field("concept"), keyword = field("keyword"))
  })
  hidden <- vapply(pages, function(p) "internal" %in% p$keyword, NA)
  listed <- vapply(pages, function(p) any(p$alias %in% entry) || any(p$concept %in% concepts), NA)
  expect_identical(vapply(pages[!hidden & !listed], `[[`, "", "name"), character())
  lessons <- sub("[.]Rmd$", "", list.files(file.path(folder, "vignettes"), "Rmd$"))
  known <- c(unlist(lapply(pages, `[[`, "alias")), lessons)
  expect_identical(setdiff(setdiff(entry, known), grep("^has_concept", entry, value = TRUE)), character())
  expect_identical(setdiff(concepts, unlist(lapply(pages, `[[`, "concept"))), character())
  expect_identical(setdiff(lessons, entry), character())
  readme <- paste(readLines(file.path(folder, "README.md")), collapse = "\n")
  linked <- regmatches(readme, gregexpr("vignettes/[a-z-]+[.]Rmd", readme))[[1]]
  expect_setequal(linked, paste0("vignettes/", lessons, ".Rmd"))
})
