//! The `when` of a rule: a CEL expression over features and backend facts. A condition that was accepted names only
//! things that exist, has no loops (its cost is its length), and can at worst fail at run time, which is then no match.
//!
//! A condition is checked in three steps: it parses, it names only known variables and functions, and it gives true
//! or false on a plain request. Must never let a fault of the CEL crate take the gateway down: parsing and
//! evaluating are fenced against panics.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::{Context, Env, ExecutionError, Program, Value};

use super::diagnostic::nearest_help;
use crate::facts::{BackendFacts, BackendRole};
use crate::features::{FEATURES, Features};

/// Longest condition in bytes. Long ones belong into two rules.
const MAX_LENGTH: usize = 1000;

/// The name under which the facts of the backends stand.
const BACKENDS: &str = "backends";

/// What is known of the backends of a role, as `backends.<role>.<fact>`.
pub const BACKEND_FACTS: [(&str, &str); 6] = [
    ("present", "a backend of this role is configured"),
    ("can_take", "one of them can take this request: size, images, parameters, tools"),
    ("context_tokens", "the largest window among them"),
    ("takes_images", "one of them takes images"),
    ("takes_tools", "one of them calls tools"),
    ("local", "one of them is on this machine"),
];

/// Functions a condition may call, besides operators.
const FUNCTIONS: [&str; 4] = ["size", "contains", "startsWith", "endsWith"];

const OPERATORS: [&str; 17] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::IN,
];

/// The standard functions without the macros (`all`, `map`, …): loops are what makes an expression expensive, and
/// `x in list` says what conditions need to say about lists.
static LANGUAGE: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// A condition that was checked.
#[derive(Debug)]
pub(super) struct Condition {
    program: Program,
}

/// What is wrong with a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConditionFault {
    pub(super) message: String,
    pub(super) help: String,
}

impl ConditionFault {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        ConditionFault { message: message.into(), help: help.into() }
    }
}

impl Condition {
    /// Parses and checks.
    pub(super) fn parse(source: &str) -> Result<Condition, ConditionFault> {
        if source.len() > MAX_LENGTH {
            let message = format!("the condition has {} bytes, {MAX_LENGTH} are allowed", source.len());
            return Err(ConditionFault::new(message, "split it into several rules with the same attempts"));
        }
        let program = match catch_unwind(|| LANGUAGE.compile(source)) {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(syntax_fault(&errors)),
            Err(_) => return Err(ConditionFault::new("the condition cannot be parsed", "write it in a simpler way")),
        };
        check_names(program.expression())?;
        let condition = Condition { program };
        let plain = Features::default();
        match condition.evaluate(&variables(&plain, &BackendsSeen::default())) {
            Ok(Value::Bool(_)) => Ok(condition),
            Ok(other) => Err(ConditionFault::new(
                format!("the condition gives {}, not true or false", kind_of(&other)),
                "compare it with something, as in `tools_count > 0`",
            )),
            // Only this request's numbers are at fault; on others the condition may well hold.
            Err(
                ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::IndexOutOfBounds(_),
            ) => Ok(condition),
            Err(error) => {
                Err(ConditionFault::new(format!("the condition cannot be evaluated: {}", one_line(&error)), ""))
            }
        }
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// Why it could not be evaluated, one line without prompt text: features carry none.
    pub(super) fn holds(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        match self.evaluate(context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("gives {}, not true or false", kind_of(&other))),
            Err(error) => Err(one_line(&error)),
        }
    }

    fn evaluate(&self, context: &Context<'_, '_>) -> Result<Value, ExecutionError> {
        catch_unwind(AssertUnwindSafe(|| self.program.execute(context)))
            .unwrap_or_else(|_| Err(ExecutionError::InternalError("the evaluation broke off".to_owned())))
    }
}

/// The facts of the backends, per role, as conditions see them.
#[derive(Default)]
pub(super) struct BackendsSeen {
    roles: [RoleSeen; 2],
}

#[derive(Default, Clone, Copy)]
struct RoleSeen {
    present: bool,
    can_take: bool,
    context_tokens: u64,
    takes_images: bool,
    takes_tools: bool,
    local: bool,
}

impl BackendsSeen {
    pub(super) fn of(features: &Features, backends: &[BackendFacts]) -> Self {
        let roles = BackendRole::ALL.map(|role| {
            backends.iter().filter(|backend| backend.role == role).fold(RoleSeen::default(), |seen, backend| RoleSeen {
                present: true,
                can_take: seen.can_take || backend.obstacle(features).is_none(),
                context_tokens: seen.context_tokens.max(backend.context_tokens),
                takes_images: seen.takes_images || backend.takes_images,
                takes_tools: seen.takes_tools || backend.takes_tools,
                local: seen.local || backend.local,
            })
        });
        BackendsSeen { roles }
    }
}

/// Everything a condition may name, with its value for one request.
pub(super) fn variables(features: &Features, backends: &BackendsSeen) -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&LANGUAGE));
    for (name, value) in FEATURES.iter().filter_map(|info| Some((info.name, features.value(info.name)?))) {
        context.add_variable_from_value(name, value);
    }
    let roles: HashMap<String, Value> = BackendRole::ALL
        .iter()
        .zip(&backends.roles)
        .map(|(role, seen)| {
            let facts: HashMap<String, Value> = BACKEND_FACTS
                .iter()
                .map(|(name, _)| {
                    let value = match *name {
                        "present" => seen.present.into(),
                        "can_take" => seen.can_take.into(),
                        "context_tokens" => Value::Int(i64::try_from(seen.context_tokens).unwrap_or(i64::MAX)),
                        "takes_images" => seen.takes_images.into(),
                        "takes_tools" => seen.takes_tools.into(),
                        _ => seen.local.into(),
                    };
                    ((*name).to_owned(), value)
                })
                .collect();
            (role.as_str().to_owned(), facts.into())
        })
        .collect();
    context.add_variable_from_value(BACKENDS, Value::from(roles));
    context
}

fn syntax_fault(errors: &cel::ParseErrors) -> ConditionFault {
    let Some(first) = errors.errors.first() else {
        return ConditionFault::new("the condition is no CEL expression", "");
    };
    let message = first.msg.lines().next().unwrap_or_default();
    ConditionFault::new(
        format!(
            "the condition is no CEL expression: {message} (line {}, column {} of it)",
            first.pos.0,
            first.pos.1 + 1
        ),
        "an example: `tool_needed && prompt_tokens_estimate < 800`",
    )
}

/// Walks an expression and refuses every name that is not a feature, a backend fact or an allowed function.
fn check_names(expression: &IdedExpr) -> Result<(), ConditionFault> {
    match &expression.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if name == BACKENDS => Err(backend_fact_fault(&[])),
        Expr::Ident(name) if FEATURES.iter().any(|info| info.name == name) => Ok(()),
        Expr::Ident(name) => {
            let known = FEATURES.iter().map(|info| info.name).chain([BACKENDS]);
            Err(unknown("variable", name, known))
        }
        Expr::Select(_) => check_path(expression),
        Expr::List(list) => list.elements.iter().try_for_each(check_names),
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if !OPERATORS.contains(&name) && !FUNCTIONS.contains(&name) {
                return Err(unknown("function or operator", name, FUNCTIONS));
            }
            call.target.iter().try_for_each(|target| check_names(target))?;
            call.args.iter().try_for_each(check_names)
        }
        Expr::Unspecified => {
            Err(ConditionFault::new("the condition is empty", "leave `when` out to match every request"))
        }
        Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => {
            Err(ConditionFault::new("conditions have no loops, maps or structs", "`x in list` asks about a list"))
        }
    }
}

/// A chain of field selections: only `backends.<role>.<fact>` is one.
fn check_path(expression: &IdedExpr) -> Result<(), ConditionFault> {
    let mut segments = Vec::new();
    let mut inner = &expression.expr;
    while let Expr::Select(select) = inner {
        segments.push(select.field.as_str());
        inner = &select.operand.expr;
    }
    let Expr::Ident(root) = inner else {
        return Err(ConditionFault::new("only `backends` has fields", ""));
    };
    segments.reverse();
    if root != BACKENDS {
        let message = format!("`{root}` has no field `{}`", segments.join("."));
        return Err(ConditionFault::new(message, "only `backends` has fields, as in `backends.ar.present`"));
    }
    let [role, fact] = segments[..] else { return Err(backend_fact_fault(&segments)) };
    if !BackendRole::ALL.iter().any(|known| known.as_str() == role) {
        return Err(unknown("backend role", role, BackendRole::ALL.iter().map(|known| known.as_str())));
    }
    if !BACKEND_FACTS.iter().any(|(known, _)| *known == fact) {
        return Err(unknown("backend fact", fact, BACKEND_FACTS.iter().map(|(known, _)| *known)));
    }
    Ok(())
}

fn backend_fact_fault(segments: &[&str]) -> ConditionFault {
    let written = [&[BACKENDS], segments].concat().join(".");
    ConditionFault::new(
        format!("`{written}` names no backend fact"),
        "write `backends.<role>.<fact>`, as in `backends.ar.present`",
    )
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> ConditionFault {
    ConditionFault::new(format!("unknown {what} `{name}`"), nearest_help(name, known))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        Value::Null => "nothing",
        _ => "a value",
    }
}

fn one_line(error: &ExecutionError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
