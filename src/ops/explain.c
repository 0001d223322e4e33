/* Errors speak of parameters and inputs by their names: those that stand in the sentence are looked up, the first one
 * becomes the error's argument, and what they were is added where the sentence does not have it. */
#include "ops/explain.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* Where `name` stands as a word; NULL: nowhere. */
static const char *find_word(const char *sentence, const char *name) {
  size_t n = strlen(name);
  for (const char *at = sentence; n && (at = strstr(at, name)); at += n)
    if ((at == sentence || !in_word(at[-1])) && !in_word(at[n])) return at;
  return NULL;
}

typedef struct account {
  mx_error *err;
  char sentence[sizeof(((mx_error *)0)->message)], given[512];
  const char *first; /* where the argument stands */
} account;

static account begin(mx_error *err) {
  account a = {.err = err};
  snprintf(a.sentence, sizeof(a.sentence), "%s", err->message);
  return a;
}

static void consider(account *a, const char *name, const char *joint, const char *value) {
  const char *at = find_word(a->sentence, name);
  if (!at) return;
  bool named = a->err->argument[0] && !a->first; /* by the rule itself */
  if (named ? !strcmp(a->err->argument, name) && !a->err->actual[0] : !a->first || at < a->first) {
    if (!named) a->first = at, mx_error_set(a->err, argument, "%s", name);
    mx_error_set(a->err, actual, "%s", value);
  }
  size_t used = strlen(a->given);
  if (!strstr(a->sentence, value))
    snprintf(a->given + used, sizeof(a->given) - used, "%s%s%s%.100s", used ? ", " : " Given: ", name, joint, value);
}

static void end(account *a) {
  size_t used = strlen(a->err->message);
  if (a->given[0] && used + strlen(a->given) + 2 < sizeof(a->err->message))
    snprintf(a->err->message + used, sizeof(a->err->message) - used, "%s.", a->given);
}

enum { MAX_INPUTS = 64 }; /* that are looked at */

/* Lack of memory, interrupts and the like are no one's fault. */
static bool complete(const mx_error *err) {
  bool fault = err->code == MX_ERR_VALUE || err->code == MX_ERR_SHAPE || err->code == MX_ERR_TYPE;
  return !fault || (err->argument[0] && err->actual[0]);
}

void mx_explain_params(const mx_op *op, const mx_dict *attrs, mx_error *err) {
  if (complete(err)) return;
  account a = begin(err);
  for (const mx_param *p = op->params; p && p->name; p++) {
    const char *text = mx_dict_get(attrs, p->name);
    consider(&a, p->name, " = ", text ? text : p->initial ? p->initial : "None");
  }
  end(&a);
}

/* What input i was. */
static const char *say_input(const mx_shape *shape, const mx_dtype *dtype, int i, char buf[MX_SHAPE_TEXT]) {
  return dtype ? mx_dtype_name(dtype[i]) : mx_shape_text(&shape[i], buf);
}

void mx_explain_inputs(const mx_op *op, const void *params, const mx_shape *shape, const mx_dtype *dtype, int n,
                       mx_error *err) {
  if (complete(err)) return;
  const char *joint = dtype ? " of type " : " of shape ", *last = NULL;
  account a = begin(err);
  char name[MX_INPUT_NAME], text[MX_SHAPE_TEXT];
  for (int i = 0; i < n && i < MAX_INPUTS; i++) {
    mx_op_in_name(op, params, i, name, sizeof(name));
    consider(&a, name, joint, say_input(shape, dtype, i, text));
  }
  for (const mx_param *p = op->params; p && p->name && !err->argument[0]; p++)
    if (find_word(a.sentence, p->name)) mx_error_set(err, argument, "%s", p->name);
  if (err->argument[0]) return end(&a);

  /* No name at all: the type or shape that comes last in the sentence is the one at fault; else the first input's. */
  for (int i = 0; i < n && i < MAX_INPUTS; i++) {
    const char *value = say_input(shape, dtype, i, text), *at = find_word(a.sentence, value);
    mx_op_in_name(op, params, i, name, sizeof(name));
    if (i > 0 && !(at && at > last)) continue;
    last = at;
    mx_error_set(err, argument, "%s", name);
    mx_error_set(err, actual, "%s", value);
  }
  if (err->argument[0]) snprintf(a.given, sizeof(a.given), " Given: %s%s%s", err->argument, joint, err->actual);
  end(&a);
}

void mx_explain_call(const mx_call *c, mx_error *err) {
  mx_shape shape[MAX_INPUTS];
  int n = c->n_in < MAX_INPUTS ? c->n_in : MAX_INPUTS;
  for (int i = 0; i < n; i++) shape[i] = c->in[i].shape;
  mx_explain_inputs(c->op, c->params, shape, NULL, n, err);
  mx_error_prefix(err, "%s", c->op->name);
  mx_error_set(err, op, "%s", c->op->name);
}
