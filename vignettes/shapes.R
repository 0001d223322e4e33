# Colour pictures of 32 x 32 pixels with one light shape on dark ground each: dim c(32, 32, 3, n), values 0 to 255.
shape.names <- c("disc", "square", "triangle", "ring", "cross", "stripes", "star", "clover")
draw.shapes <- function(n, kinds = shape.names[1:6]) {
  grid <- expand.grid(x = 1:32, y = 1:32)
  inside <- function(kind, x, y) {
    radius <- sqrt(x^2 + y^2)
    angle <- atan2(y, x)
    switch(kind,
      disc = radius < 0.9,
      square = pmax(abs(x), abs(y)) < 0.8,
      triangle = y > -0.6 & y < 1.1 - 1.9 * abs(x),
      ring = radius < 1 & radius > 0.6,
      cross = pmin(abs(x), abs(y)) < 0.25 & pmax(abs(x), abs(y)) < 1,
      stripes = pmax(abs(x), abs(y)) < 0.95 & sin(9 * x) > 0,
      star = radius < 0.7 + 0.3 * cos(5 * angle),
      clover = radius < 0.7 + 0.3 * cos(4 * angle))
  }
  label <- sample(length(kinds), n, TRUE)
  data <- vapply(label, function(k) {
    at <- runif(2, 12, 21)
    turn <- runif(1, -pi, pi)
    size <- runif(1, 8, 12)
    x <- (cos(turn) * (grid$x - at[1]) + sin(turn) * (grid$y - at[2])) / size
    y <- (-sin(turn) * (grid$x - at[1]) + cos(turn) * (grid$y - at[2])) / size
    back <- runif(3, 0, 110)
    front <- runif(3, 140, 255)
    ink <- inside(kinds[k], x, y)
    pixels <- outer(ink, front) + outer(!ink, back) + rnorm(3072, sd = 20)
    pmin(255, pmax(0, pixels))
  }, numeric(3072))
  list(data = array(data, c(32, 32, 3, n)), label = label - 1)
}
